"""The benchmark of the main job: the farm next to an app made by hand, under the same load."""
