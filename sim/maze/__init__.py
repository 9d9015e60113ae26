"""The maze: smooth and jagged plans in one world, and the closed loop that tells what was learnt from them.

Positions are x, y in metres, the origin at the maze's lower left corner. A plan is (N + 1, 2): where the
robot is every `PERIOD_S`, start and goal included.
"""
