#!/bin/sh
# Demonstrations for gaps.yaml: the same seeds under one gap after the other, 400 from everywhere and 300 from near the
# goal, six minutes of one core each. What disturbs the planner (DART) makes its demonstrations show recovery, and the
# starts near the goal show what to do when the tool went home too early: without both a policy fails for want of them
# (.21 and .39 in place of .55 without a gap), and a gap would not show. A failed seed is noted in its folder:
# `ls FOLDER/*.failed.json` counts the failures of the expert. With names as arguments: only these.
set -e
root=data/pushing/gaps
disturb="--disturbance.action-noise-m 0.0015 --disturbance.kick-rate 0.012"

make() {
    name=$1
    shift
    [ -e "$root/both/$name" ] && return
    ambient-policy collect --no-images --episodes 400 --first-seed 10000 --scenario pushing --out "$root/far/$name" "$@"
    ambient-policy collect --no-images --episodes 300 --first-seed 20000 --scenario pushing_near_goal --out "$root/near/$name" "$@"
    ambient-policy data merge "$root/far/$name" "$root/near/$name" --out "$root/both/$name"
}

for name in ${*:-none quasistatic execute teleop goal_shift=1 goal_shift=2 goal_noise=3 lag=2 gains=2 friction=2 \
    centre_of_mass=3 pusher_radius=3 shape=1 contact=3 table_friction=3 mass=3 inertia=1 tip_height=2}; do
    case $name in
    none) make "$name" --style planner $disturb ;;
    quasistatic) make "$name" --pipeline replay --gap quasistatic ;; # no physics to disturb
    execute) make "$name" --pipeline execute $disturb ;;
    teleop) make "$name" --style teleop $disturb ;;
    *) make "$name" --style planner $disturb --gap "$name" ;;
    esac
done
