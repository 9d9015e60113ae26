#!/bin/sh
# Demonstrations for gaps.yaml: the same 200 seeds under one gap after the other. About 45 minutes of one core.
# A failed seed is noted in its folder, so `ls FOLDER/*.failed.json` counts the failures of the expert.
set -e
collect() {
    name=$1
    shift
    ambient-policy collect --no-images --episodes 200 --first-seed 10000 --out "data/pushing/gaps/$name" "$@"
}
operator() { collect "$1" --style planner --gap "$1"; }

collect planner --style planner
collect teleop --style teleop
collect quasistatic --pipeline replay --gap quasistatic
collect execute --pipeline execute
operator lag=3
operator gains=3
operator goal_shift=1
operator goal_shift=2
operator goal_noise=3
operator friction=2
operator table_friction=3
operator mass=3
operator inertia
operator centre_of_mass=3
operator pusher_radius=3
operator tip_height=2
operator contact=3
operator starts=1
operator shape=1
