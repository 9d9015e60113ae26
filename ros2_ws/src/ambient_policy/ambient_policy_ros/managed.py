"""A node with ROS 2's life cycle, as all of ours are but the twin, which stands for a robot.

| state | |
|---|---|
| unconfigured | parameters may be changed; no topics, nothing loaded |
| inactive | ready; answers, but moves nothing |
| active | works |

With the parameter `autostart` (the default) a node goes to active by itself, and ends if it cannot.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Generic

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from std_msgs.msg import Bool

from ambient_policy.errors import AmbientPolicyError
from ambient_policy_ros.parameters import Model, guard_parameters, read_parameters

_OURS = ("autostart",)


class ManagedNode(LifecycleNode, Generic[Model]):
    """Carries a node through its states; a subclass says what to do in each.

    Publishers, subscriptions, timers and guard conditions that `configure` creates are destroyed at clean-up.

    Args:
        name: of the node; a launch file may give another.
        model: what its parameters must fit.
    Raises:
        ConfigError: they do not.
    """

    def __init__(self, name: str, model: type[Model]) -> None:
        super().__init__(name, automatically_declare_parameters_from_overrides=True)
        self.active = self.configured = self._starting = False
        self._model = model
        self._failure: Exception | None = None
        if not self.has_parameter("autostart"):
            self.declare_parameter("autostart", True)
        read_parameters(self, model, ours=_OURS)
        guard_parameters(self, model, self._locked, ours=_OURS)
        self._kept = self._made()
        self._since_ns = 0
        """When it was configured, on the clock of the system, as stamps of messages are."""

    def destroy_node(self) -> None:
        """Clean up, then let go of the node."""
        self.clean_up()
        super().destroy_node()

    def configure(self, config: Model) -> None:
        """Load what is needed and create topics; an AmbientPolicyError keeps the node unconfigured."""
        raise NotImplementedError

    def activate(self) -> None:
        """Begin to work."""

    def deactivate(self) -> None:
        """Stop working, in a way that is safe for whatever moves."""

    def clean_up(self) -> None:
        """Let go of what is neither topic nor timer."""

    def enabled_by(self, msg: Bool, info: Mapping[str, int]) -> bool:
        """Return whether a message on policy/enable lets this node work now.

        Not if it is inactive, nor if it was said before this node was configured: the topic is latched, and
        a node that is started again must not move a robot because somebody wanted its predecessor to.
        """
        if msg.data and info["source_timestamp"] < self._since_ns:
            self.get_logger().warning("policy/enable was said before this node started: say it again")
            return False
        return bool(msg.data) and self.active

    def start(self) -> None:
        """Go to active, if `autostart` says so.

        Raises:
            AmbientPolicyError: what a user can cure; whatever else went wrong is raised as it is.
        """
        if not self.get_parameter("autostart").value:
            self.get_logger().info("unconfigured, as `autostart` is false; waiting for a transition")
            return
        self._starting = True
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != TransitionCallbackReturn.SUCCESS:
                assert self._failure is not None
                raise self._failure
        self._starting = False

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take the parameters as they are now, and configure."""
        self._kept, self._since_ns = self._made(), time.time_ns()
        result = self._try(lambda: self.configure(read_parameters(self, self._model, ours=_OURS)))
        self.configured = result == TransitionCallbackReturn.SUCCESS
        if result == TransitionCallbackReturn.FAILURE:
            self._release()
        return result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Activate."""
        result = self._try(self.activate)
        self.active = result == TransitionCallbackReturn.SUCCESS
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Deactivate."""
        self.active = False
        return self._try(self.deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to how the node began."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Deactivate if need be, and clean up."""
        if self.active:
            self.on_deactivate(state)
        return self.on_cleanup(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Fall back to unconfigured."""
        self.active = False
        return self.on_cleanup(state)

    def _try(self, step: Callable[[], None]) -> TransitionCallbackReturn:
        # rclpy would take an exception for an error too, and lose its text.
        try:
            step()
        except AmbientPolicyError as error:
            self._failure = error
            if not self._starting:
                self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            self._failure = error
            if not self._starting:
                self.get_logger().error(traceback.format_exc())
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    def _locked(self) -> str:
        return "parameters are used at configure; deactivate and clean up first" if self.configured else ""

    def _made(self) -> set[Any]:
        return {*self.publishers, *self.subscriptions, *self.timers, *self.guards}

    def _release(self) -> None:
        self.configured = False
        self.clean_up()
        for made in self._made() - self._kept:
            if isinstance(made, Publisher):
                self.destroy_publisher(made)
            elif isinstance(made, Subscription):
                self.destroy_subscription(made)
            elif isinstance(made, Timer):
                self.destroy_timer(made)
            else:
                self.destroy_guard_condition(made)
