from overtake.collective import CollectiveError as HorovodInternalError

__all__ = ["HorovodInternalError"]
