"""Tools for whole datasets: look at them, check and mend them, join them, and speak other formats.

cli.py                the commands of `ambient-policy data`; looping.py  progress, in order, on a few threads
findings.py           what can be wrong, and how bad it is
examine.py            one episode, read without trusting any of it;  health.py  what its numbers and images
tell validate.py           a whole dataset against itself
repair.py             what can be mended without guessing; mend.py  how: beside, then renamed, nothing lost
merge.py              several folders as one, without a second copy
overview.py           what the page of `inspect` shows;  overview_plots.py, projection.py  its figures
mapping.py            how the fields of another format become ours, typed;  guess.py  a first draft of it
convert.py            `import` and `export`;  portable.py  what they share
lerobot_read.py, lerobot_write.py, lerobot_video.py, lerobot_stats.py
                      LeRobotDataset v2.1 (read) and v3.0 (read and write)
zarr_format.py        the replay buffer of diffusion policy; hdf5_format.py  robomimic's file
"""
