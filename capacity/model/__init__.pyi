from .cluster import Cluster as Cluster
from .limits import Ceiling as Ceiling
from .limits import Demands as Demands
from .limits import binding as binding
from .limits import ceilings as ceilings
from .limits import typical as typical
