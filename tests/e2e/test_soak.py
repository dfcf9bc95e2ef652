"""A short soak (soak.py): mixed protocols through swaps, kills and upgrades, every request in the ledger."""

import soak


def test_mixed_protocols_through_swaps_kills_and_upgrades(tmp_path):
    quick = [p for p in soak.PROTOCOLS if p != "serving grpc"]  # which takes longer to import than this lasts
    report = soak.Soak(tmp_path, seed=3, seconds=12, protocols=quick).run()
    assert report["did"]["swap"] > 0
