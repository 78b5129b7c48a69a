"""The routes of hosts and routers, from one plan."""

from romana.core.routing.host import announcements, departed, host_routes
from romana.core.routing.plan import RoutePlan, device_plan, devices

__all__ = ["RoutePlan", "announcements", "departed", "device_plan", "devices", "host_routes"]
