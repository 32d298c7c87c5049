"""For PyInstaller: what `edgelm.load` imports by name, and the version."""

from PyInstaller.utils.hooks import copy_metadata

datas = copy_metadata("edgelm")
hiddenimports = ["edgelm_runtime"]
