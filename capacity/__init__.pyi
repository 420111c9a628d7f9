from .errors import CapacityError as CapacityError
from .rules import PoolRules as PoolRules
from .rules import available_cpus as available_cpus
from .rules import parallelism as parallelism
from .rules import pool_plan as pool_plan
from .rules import queue_size as queue_size
from .rules import tuning_table as tuning_table
