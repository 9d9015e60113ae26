"""The Drake twin: scenario, station, cameras, scripted operator, data collection and trials.

Frames: W is the world (base of the arm, table top at z = 0), S the slider (the T, origin at its centre of
mass), T the tool (tip of the pusher, axes parallel to the world's). Poses of the slider in the plane are
`(x_m, y_m, yaw_rad)`.
"""
