# The package itself: the one that runs the workflow, as common.smk says, and no copy of it.
ln -sfn "$MFM_PACKAGE" "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/mfm"
