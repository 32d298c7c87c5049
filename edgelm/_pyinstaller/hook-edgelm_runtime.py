"""For PyInstaller: the tasks, which are imported by their names, the default bundles, and the files of the runtime."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

datas = collect_data_files("edgelm_runtime")
hiddenimports = collect_submodules("edgelm_runtime")
