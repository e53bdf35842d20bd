"""The app on a run folder: logic apart from layout.

`workbench`, `making`, `tables` and `jobs` know no layout; the tabs and `page` lay out what `pictures` draw; `serve`
starts it all.
"""
