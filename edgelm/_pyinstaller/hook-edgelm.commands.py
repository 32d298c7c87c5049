"""For PyInstaller, of a program that has the command `edgelm`: its parts, and the page of a profile."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

datas = collect_data_files("edgelm")
hiddenimports = collect_submodules("edgelm.commands")
# The export needs torch: a workstation's work, and a gigabyte on a till. A program that imports it itself has it.
excludedimports = ["edgelm_export"]
