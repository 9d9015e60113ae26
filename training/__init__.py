"""Training: from folders of episodes to a policy bundle. The only room that knows torch.

config.py       TrainConfig, the one document of a run;  settings.py  what a command line lays over it
sources.py      the method: what each source may teach, how often, towards which target;  presets/
cache.py        episodes to packed arrays, once per set of episodes and image size
windows.py      which frames and labels make a training sample
data.py         the caches of a run on its device: normaliser, windows, train and validation split
admission.py, teaching.py   the method as arrays: bands by window, shares by noise level, contraction noise
noise_first.py  the sampler: noise level, source, window;  batches.py  random batches, augmentation
encoders.py     image to feature;  denoisers.py  noisy chunk to clean chunk;  policy.py  both together
targets.py      plain, ambient and rescaled ambient residuals;  loss.py, ema.py, phases.py, features.py
loop.py         the steps;  checkpoint.py  stop and go on exactly;  run.py  the whole run
classifier.py, annotate*.py   clean against corrupt, and the levels that follow
sweep*.py       many runs as one resumable job
train.py, export.py, annotate.py, sweep.py   the commands
"""
