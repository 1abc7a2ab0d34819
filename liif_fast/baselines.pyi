# for type checkers: at run time an alias (see __init__.py)
from .models.baselines import *
