"""romana: isolated, cloud-native networks with nothing but layer 3."""

__version__ = "0.1.0"
