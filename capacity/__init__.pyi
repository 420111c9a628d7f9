from .errors import CapacityError as CapacityError
from .launcher.batch import HeightRange as HeightRange
from .model.calibration import Calibration as Calibration
from .model.cluster import Cluster as Cluster
from .model.limits import ceilings as ceilings
from .model.outlook import outlook as outlook
from .model.prediction import predict as predict
from .notebook.decide_panel import Decide as Decide
from .notebook.explore import explore as explore
from .notebook.launch import Launch as Launch
from .observe.run import Run as Run
from .observe.session import launch as launch
from .rules import PoolRules as PoolRules
from .rules import available_cpus as available_cpus
from .rules import parallelism as parallelism
from .rules import pool_plan as pool_plan
from .rules import queue_size as queue_size
from .rules import tuning_table as tuning_table

__version__: str
