"""Training: from folders of episodes to a policy bundle. The only room that knows torch.

config.py       TrainConfig, the one document of a run
cache.py        episodes to packed arrays, once per set of episodes and image size
windows.py      which frames and labels make a training sample
data.py         the caches of a run on its device: normaliser, windows, train and validation split
batches.py      random batches, augmentation
encoders.py     image to feature;  denoisers.py  noisy chunk to clean chunk;  policy.py  both together
loss.py, ema.py, pretext.py, features.py
loop.py         the steps;  checkpoint.py  stop and go on exactly;  run.py  the whole run
train.py, export.py   the two commands
"""
