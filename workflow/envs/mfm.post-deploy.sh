# The package itself, from the checkout that runs the workflow.
pip install --no-deps --editable .
