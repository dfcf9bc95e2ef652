from overtake.collective import CollectiveError as HorovodInternalError
from overtake.elastic import HostsUpdatedInterrupt

__all__ = ["HorovodInternalError", "HostsUpdatedInterrupt"]
