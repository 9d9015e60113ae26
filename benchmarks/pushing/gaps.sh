#!/bin/sh
# Demonstrations for gaps.yaml: the same 400 seeds under one gap after the other, six minutes of one core each. What
# disturbs the planner (DART) makes its demonstrations show recovery; without it a policy fails for want of that, and no
# gap shows. A failed seed is noted in its folder: `ls FOLDER/*.failed.json` counts the failures of the expert.
set -e
collect() {
    name=$1
    shift
    ambient-policy collect --no-images --episodes 400 --first-seed 10000 --out "data/pushing/gaps/$name" "$@"
}
operator() {
    name=$1
    shift
    collect "$name" --disturbance.action-noise-m 0.0015 --disturbance.kick-rate 0.012 "$@"
}

operator none --style planner
collect quasistatic --pipeline replay --gap quasistatic
operator execute --pipeline execute
operator teleop --style teleop
for gap in goal_shift=1 goal_shift=2 goal_noise=3 lag=2 gains=2 friction=2 centre_of_mass=3 pusher_radius=3 \
    shape=1 contact=3 table_friction=3 mass=3 starts=1 inertia=1 tip_height=2; do
    operator "$gap" --style planner --gap "$gap"
done
