/* Jobs of quality that run as processes of their own, so that a runtime is never loaded into the
 * control plane: `overtake package SPEC` and `overtake evaluate SPEC`.
 *
 * SPEC is a JSON file; the result is written atomically to the file that it names under "result".
 * Errors go to stderr (the run's log); exit 0 or 1.
 *
 * package: makes a bundle from what a training program wrote.
 *   {"model": "/abs/out/model",            the file or directory (format detected)
 *    "bundle": "/abs/bundle",              where the bundle is made; must not exist
 *    "train": ["/abs/data/base", ...],     directories of .npy: reference/trained_on from these
 *    "held_out": ["/abs/held/base", ...],  golden rows and reference/outputs from these
 *    "label": "y", "lineage": {...},       lineage.json as given
 *    "isolation": "process",               the model runs in a worker process (docs/isolation.md);
 *                                          "none", the default: in this one
 *    "result": "/abs/result.json"}
 *   result: {"bundle_sha256": "...", "format": "onnx", "inputs": [...], "outputs": [...],
 *            "golden_rows": 16, "batching": true, "batching_reason": ""}
 *   A program that wrote a whole bundle (manifest.json present) keeps its reference and golden
 *   answers; missing parts are added. A NaN among the answers to finite rows is an error. A model
 *   that takes text has no golden answers and no references.
 *
 * evaluate: scores bundles on the same rows.
 *   {"bundles": [{"name": "candidate", "dir": "/abs/..", "isolation": "process"},
 *                {"name": "champion", "dir": "..."}],
 *    "data": [{"name": "base", "dir": "/abs/held/base", "label": "y"}],
 *    "result": "/abs/result.json"}
 *   result: {"data": {"base": {"rows": 300, "candidate": {"right": 290, "accuracy": 0.966},
 *            "champion": {...}, "only_candidate": 12, "only_champion": 3, "p_better": 0.004,
 *            "p_worse": 0.99}}}          p_*: exact one-sided sign test (McNemar)
 *   Rows and labels that do not fit the signature are an error that names the column. Of a bundle
 *   that takes text nothing is scored: "data" is empty. */
#ifndef OT_QUALITY_JOBS_H
#define OT_QUALITY_JOBS_H

#include "base/error.h"

ot_rc ot_package_job(const char *spec_path, ot_error *err) OT_CHECKED;
ot_rc ot_evaluate_job(const char *spec_path, ot_error *err) OT_CHECKED;

#endif
