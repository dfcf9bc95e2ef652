# Overtake. `make` builds, `make demo` shows the loop, `make test` proves it.
# One Makefile, not recursive; objects and their dependencies lie in $(BUILD).
#   V=release (default) | asan | tsan | fuzz     WERROR=1 turns warnings into errors
V       ?= release
BUILD   ?= build/$(V)
CC      ?= gcc
PREFIX  ?= /usr/local
PYTHON  ?= .deps/venv/bin/python
PKGS    := libsodium jansson sqlite3 yaml-0.1 zlib libnghttp2

# Rows of the architecture, lowest first: a folder includes only from itself and from the rows that
# its line names (docs/architecture.md; tools/layers.py checks the includes).
ROW_base     :=
ROW_store    := base
ROW_net      := base
ROW_stats    := base
ROW_codec    := base
ROW_model    := stats codec $(ROW_codec)
ROW_collective := base
ROW_input    := collective codec base
LOW          := input collective model store net stats codec base
ROW_registry := $(LOW)
ROW_launch   := $(LOW)
ROW_runtime  := launch $(LOW)
ROW_backup   := $(LOW)
MID          := registry runtime launch backup $(LOW)
ROW_serve    := $(MID)
ROW_load     := $(MID)
ROW_quality  := $(MID)
ROW_rollout  := $(MID)
HIGH         := serve load quality rollout $(MID)
ROW_protocol := serve $(MID)
ROW_pipeline := $(HIGH)
ROW_fleet    := $(HIGH)
TOP          := pipeline fleet $(HIGH)
ROW_api      := $(TOP)
ROW_doctor   := $(MID)
ROW_simulate := $(TOP)
ROW_cli      := api doctor simulate protocol $(TOP)
MODULES      := cli api doctor simulate protocol $(TOP)

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
        -Wvla -Wundef -Wcast-qual -Wformat=2 -Wno-format-truncation $(if $(WERROR),-Werror)
OPT_release := -O2 -g
OPT_asan    := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OPT_fuzz    := -O1 -g -Wno-unknown-warning-option -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
OPT_tsan    := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
INC     := -Isrc -Iinclude -Itests $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
CFLAGS  ?=
ALL_CFLAGS = -std=c17 -D_GNU_SOURCE -fPIC -fvisibility=hidden -ffp-contract=off -pthread $(WARN) \
              $(OPT_$(V)) $(INC) $(CFLAGS)
LIBS    := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lm -ldl -pthread
LIBS_SO := $(shell pkg-config --libs libsodium jansson zlib 2>/dev/null) -lm -ldl -pthread

SRC      := $(wildcard src/*.c $(foreach m,$(MODULES),src/$(m)/*.c))
OBJ      := $(SRC:%.c=$(BUILD)/%.o)
ARCHIVES := $(foreach m,$(MODULES),$(BUILD)/lib/$(m).a)
UNIT_SRC := $(wildcard tests/unit/*/*_test.c)
UNIT_BIN := $(UNIT_SRC:%.c=$(BUILD)/%)
FUZZ_SRC := $(wildcard tests/fuzz/*_fuzz.c)
FUZZ_BIN := $(FUZZ_SRC:tests/fuzz/%_fuzz.c=$(BUILD)/tests/fuzz/%_replay)
FUZZ_LIVE := $(FUZZ_SRC:tests/fuzz/%_fuzz.c=$(BUILD)/tests/fuzz/%_fuzz)
PLUGINS  := $(sort $(filter-out common tensorflow_ops mpi,$(patsubst plugins/%/,%,$(dir $(wildcard plugins/*/*.c)))))
PLUGIN_SO := $(foreach p,$(PLUGINS),$(BUILD)/plugins/overtake_$(p).so)

# Engines of other libraries (include/overtake/engine.h), each where its library's headers are.
MPICC     := $(shell command -v mpicc)
ENGINE_SO := $(if $(MPICC),$(BUILD)/libovertake_mpi.so)

.PHONY: all
all: $(BUILD)/overtake $(BUILD)/libovertake.so $(BUILD)/libovertake_tf.so $(ENGINE_SO) $(PLUGIN_SO)

.SECONDARY:
.SECONDEXPANSION:

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

define module_rule
$(BUILD)/lib/$(1).a: $(patsubst %.c,$(BUILD)/%.o,$(wildcard src/$(1)/*.c))
	@mkdir -p $$(@D)
	@rm -f $$@
	@$(AR) rcs $$@ $$^
endef
$(foreach m,$(MODULES),$(eval $(call module_rule,$(m))))

# The page, in the binary. Where its libraries can't be had, it says so and the build goes on.
PAGE     := build/page
$(PAGE)/fetched.json: web/package.json web/package-lock.json
	@tools/page.sh $(PAGE)
$(BUILD)/page/assets.c: $(PAGE)/fetched.json tools/embed.py $(wildcard web/*.*)
	@python3 tools/embed.py web $(PAGE)/node_modules $@
$(BUILD)/page/assets.o: $(BUILD)/page/assets.c src/api/page.h
	$(CC) $(ALL_CFLAGS) -c $< -o $@
$(BUILD)/lib/api.a: $(BUILD)/page/assets.o

# What the messages of gRPC are, for server reflection.
$(BUILD)/protos/protos.c: tools/protoset.py $(shell find proto -name '*.proto')
	@mkdir -p $(@D)
	@python3 tools/protoset.py proto $@
	@touch $@
$(BUILD)/protos/protos.o: $(BUILD)/protos/protos.c src/protocol/protos.h
	$(CC) $(ALL_CFLAGS) -c $< -o $@
$(BUILD)/lib/protocol.a: $(BUILD)/protos/protos.o

$(BUILD)/overtake: $(patsubst %.c,$(BUILD)/%.o,$(wildcard src/*.c)) $(ARCHIVES)
	$(CC) $(ALL_CFLAGS) -rdynamic -o $@ $(filter %.o,$^) \
	    $(foreach m,$(MODULES),$(BUILD)/lib/$(m).a) $(LIBS)

# Lives inside other people's processes: base, stats, codec, model, collective and input, and only
# the libraries that these need.
$(BUILD)/libovertake.so: $(patsubst %.c,$(BUILD)/%.o,$(wildcard src/model/*.c src/collective/*.c src/input/*.c)) $(foreach m,stats codec base,$(BUILD)/lib/$(m).a)
	$(CC) $(ALL_CFLAGS) -shared -Wl,-z,defs -Wl,-soname,libovertake.so.1 -Wl,--exclude-libs,ALL \
	    -o $@ $^ $(LIBS_SO)

# TensorFlow's names are its own library's: an empty one of that soname says so, and TensorFlow is not
# needed to build.
$(BUILD)/stub/libtensorflow_framework.so.2:
	@mkdir -p $(@D)
	$(CC) -shared -nostdlib -Wl,-soname,$(@F) -o $@ -x c /dev/null
TF_OPS_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(wildcard plugins/tensorflow_ops/*.c))
$(BUILD)/libovertake_tf.so: $(TF_OPS_OBJ) $(BUILD)/libovertake.so $(BUILD)/stub/libtensorflow_framework.so.2
	$(CC) $(ALL_CFLAGS) -shared -o $@ $(filter %.o,$^) -Wl,--no-as-needed $(BUILD)/libovertake.so \
	    $(BUILD)/stub/libtensorflow_framework.so.2 -pthread

$(BUILD)/plugins/mpi/%.o: plugins/mpi/%.c
	@mkdir -p $(@D)
	OMPI_CC="$(CC)" MPICH_CC="$(CC)" $(MPICC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/libovertake_mpi.so: $(patsubst %.c,$(BUILD)/%.o,$(wildcard plugins/mpi/*.c))
	OMPI_CC="$(CC)" MPICH_CC="$(CC)" $(MPICC) $(ALL_CFLAGS) -shared -Wl,-z,defs -o $@ $^ -ldl -pthread

define plugin_rule
$(BUILD)/plugins/overtake_$(1).so: $(patsubst %.c,$(BUILD)/%.o,$(wildcard plugins/$(1)/*.c))
	@mkdir -p $$(@D)
	$(CC) $(ALL_CFLAGS) -shared -o $$@ $$^ -ldl -lm -pthread
endef
$(foreach p,$(PLUGINS),$(eval $(call plugin_rule,$(p))))

$(BUILD)/plugins/python/script.o: plugins/python/worker.py
$(BUILD)/src/launch/spare_script.o: src/launch/spare.py

CONFORMANCE := $(BUILD)/tests/conformance/conformance
$(CONFORMANCE): $(wildcard tests/conformance/*.c) $(foreach m,runtime launch $(LOW),$(BUILD)/lib/$(m).a)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -rdynamic -o $@ $(filter %.c,$^) $(filter %.a,$^) $(LIBS)

# A unit test links its own folder and the rows below it: what it could not reach in the product it
# cannot reach here.
$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o \
        $$(foreach m,$$(firstword $$(subst /, ,$$*)) $$(ROW_$$(firstword $$(subst /, ,$$*))),$(BUILD)/lib/$$(m).a)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -rdynamic -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS)

# Ranks of other engines load them.
$(BUILD)/tests/unit/collective/collective_test: | $(ENGINE_SO)

# Tests of the pipeline start runs through the binary and the smallest runtime.
$(filter $(BUILD)/tests/unit/pipeline/%,$(UNIT_BIN)): | $(BUILD)/overtake $(BUILD)/plugins/overtake_null.so

# A fuzz target's first line names the folders it links: /* links: net base */. With the replay driver
# its corpus runs as an ordinary test; with clang's libFuzzer (V=fuzz) it goes on from there.
define fuzz_rule
$(BUILD)/tests/fuzz/$(1)_replay: tests/fuzz/$(1)_fuzz.c tests/fuzz/replay.c $(foreach m,$(shell sed -n '1s/.*links: *\([a-z ]*\).*/\1/p' tests/fuzz/$(1)_fuzz.c),$(BUILD)/lib/$(m).a)
	@mkdir -p $$(@D)
	$(CC) $(ALL_CFLAGS) -Wno-missing-prototypes -o $$@ $$(filter %.c,$$^) $$(filter %.a,$$^) $(LIBS)
$(BUILD)/tests/fuzz/$(1)_fuzz: tests/fuzz/$(1)_fuzz.c $(foreach m,$(shell sed -n '1s/.*links: *\([a-z ]*\).*/\1/p' tests/fuzz/$(1)_fuzz.c),$(BUILD)/lib/$(m).a)
	@mkdir -p $$(@D)
	$(CC) $(ALL_CFLAGS) -Wno-missing-prototypes -fsanitize=fuzzer -o $$@ $$(filter %.c,$$^) $$(filter %.a,$$^) $(LIBS)
endef
$(foreach f,$(FUZZ_SRC:tests/fuzz/%_fuzz.c=%),$(eval $(call fuzz_rule,$(f))))

-include $(OBJ:.o=.d) $(UNIT_BIN:=.d) $(patsubst %.c,$(BUILD)/%.d,$(wildcard plugins/*/*.c))

# --- set-up ------------------------------------------------------------------------------------
# RUNTIME=onnx: the small path, without TensorFlow.
RUNTIME ?= tensorflow
.PHONY: deps deps-debian deps-python deps-page deps-browser deps-fuzz deps-promtool deps-sshd deps-torch deps-mpi deps-launchers deps-tools deps-bench deps-tensorflow-old deps-torch-new deps-cross
deps: deps-debian deps-python deps-page
deps-debian:
	@tools/deps.sh debian
deps-python:
	@RUNTIME=$(RUNTIME) tools/deps.sh python
deps-page:
	@tools/deps.sh page
# What only `make test` needs.
deps-browser:
	@tools/deps.sh browser
deps-fuzz:
	@tools/deps.sh fuzz
deps-promtool:
	@tools/deps.sh promtool
deps-sshd:
	@tools/deps.sh sshd
deps-torch:
	@tools/deps.sh torch
deps-mpi:
	@tools/deps.sh mpi
# Other launchers, which `make test-long` starts ranks with; the tests leave out what is not there.
deps-launchers:
	@tools/deps.sh launchers
# What only lint, test-long and bench need.
deps-tools:
	@tools/deps.sh tools
# Other servers, for `make bench` to compare with; it says so when they are not there.
deps-bench:
	@tools/deps.sh bench
# Other versions of the frameworks, for `make frameworks-test`; torch-new is 5 GB.
deps-tensorflow-old:
	@tools/deps.sh tensorflow-old
deps-torch-new:
	@tools/deps.sh torch-new
deps-cross:
	@tools/deps.sh cross

# --- tests -------------------------------------------------------------------------------------
.PHONY: test test-unit test-long unit-bins fuzz-bins fuzz-live layers lint install bench
test: deps deps-browser deps-fuzz deps-promtool deps-sshd deps-torch deps-mpi
	@$(MAKE) --no-print-directory layers
	@command -v mpicc >/dev/null || echo "test: without the engine mpi: there is no mpicc"
	@$(MAKE) --no-print-directory WERROR=1 -j2 all unit-bins fuzz-bins $(CONFORMANCE)
	@+$(if $(FUZZ_CC),$(MAKE_FUZZ))
	@BUILD=$(BUILD) PYTHON=$(PYTHON) FUZZ=$(if $(FUZZ_CC),build/fuzz) tools/test.sh

# libFuzzer is clang's: where there is none, what needs it is left out, and tools/test.sh says so.
FUZZ_CC   = $(shell command -v clang-14 2>/dev/null)
MAKE_FUZZ = $(MAKE) --no-print-directory -j2 V=fuzz BUILD=build/fuzz CC=$(FUZZ_CC) fuzz-live

unit-bins: $(UNIT_BIN)
fuzz-bins: $(FUZZ_BIN)
fuzz-live: $(FUZZ_LIVE)
test-unit: unit-bins
	@BUILD=$(BUILD) tools/test.sh unit

layers:
	@$(or $(wildcard $(PYTHON)),python3) tools/layers.py

lint: deps-tools
	@clang-format-14 --dry-run --Werror $$(git ls-files '*.c' '*.h')

# --- the loop, shown ----------------------------------------------------------------------------
.PHONY: demo
demo:
	@echo "overtake demo: setting up (Debian and Python packages, then the build)"
	@$(MAKE) --no-print-directory deps
	@mkdir -p $(dir $(BUILD))
	@$(MAKE) --no-print-directory -j2 all >$(BUILD).log 2>&1 || { tail -20 $(BUILD).log; exit 1; }
	@$(PYTHON) examples/digits/demo.py --overtake $(BUILD)/overtake --runtime $(RUNTIME)

# --- long tests, benchmarks, installation -------------------------------------------------------
FUZZ_SECONDS ?= 300
KILLS        ?= 200
SOAK_SECONDS ?= 600
BUSY_SECONDS ?= 600
# Of each of four seeds: the power is cut after every operation of these transactions.
CRASH_TXNS   ?= 250
CRASH_TEST   := $(BUILD)/tests/unit/store/crash_test
.PHONY: cross-test
test-long: deps deps-tools deps-launchers deps-mpi
	@+$(MAKE_FUZZ)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tools/fuzz.sh build/fuzz
	@$(MAKE) --no-print-directory -j2 all $(CRASH_TEST)
	@$(MAKE) --no-print-directory $(BUILD)/tests/unit/collective/collective_test
	@$(BUILD)/tests/unit/collective/collective_test long
	@seq 1 4 | xargs -P 2 -I '{}' env OT_CRASH_SEED='{}' OT_CRASH_TXNS=$(CRASH_TXNS) $(CRASH_TEST)
	@BUILD=$(BUILD) $(PYTHON) tests/e2e/kill_campaign.py --kills $(KILLS)
	@BUILD=$(BUILD) $(PYTHON) tests/e2e/demo_kills.py --kills $(KILLS)
	@BUILD=$(BUILD) $(PYTHON) tests/e2e/soak.py --seconds $(SOAK_SECONDS)
	@BUILD=$(BUILD) OT_UPGRADE_SEEDS=10 OT_UPGRADE_ROUNDS=20 OT_PREVIOUS_LIMIT_S=0 \
	    $(PYTHON) -m pytest -q -rs tests/e2e/test_upgrade.py tests/e2e/test_neighbours.py
	@BUILD=$(BUILD) $(PYTHON) -m pytest -q -rs tests/e2e/test_run_slurm.py tests/e2e/test_run_ranks.py
	@BUILD=$(BUILD) LATE_SECONDS=130 $(PYTHON) -m pytest -q -rs tests/e2e/test_run_faults.py
	@BUILD=$(BUILD) BUSY_SECONDS=$(BUSY_SECONDS) $(PYTHON) -m pytest -q -s tests/e2e/test_run_busy.py
	@$(MAKE) --no-print-directory frameworks-test
	@$(MAKE) --no-print-directory cross-test

# The adapters on the oldest TensorFlow that they claim and, after `make deps-torch-new`, on a newer PyTorch than
# Debian's.
TORCH_NEW := $(CURDIR)/.deps/torch-new/bin/python
.PHONY: frameworks-test
frameworks-test: deps deps-torch deps-tensorflow-old
	@$(MAKE) --no-print-directory -j2 all
	@BUILD=$(BUILD) TENSORFLOW_PYTHON=$(CURDIR)/.deps/tensorflow-old/bin/python \
	    $(PYTHON) -m pytest -q -rs tests/e2e/test_tensorflow_ranks.py
	@if [ -x $(TORCH_NEW) ]; then BUILD=$(BUILD) TORCH_PYTHON=$(TORCH_NEW) $(PYTHON) -m pytest -q -rs \
	    tests/e2e/test_torch.py tests/e2e/test_horovod.py tests/e2e/test_residuals.py; else echo "frameworks-test: without a newer PyTorch: make deps-torch-new"; fi

# Pictures of every scene of the page, for a person to look at.
.PHONY: page-looks
page-looks: all deps-browser
	@BUILD=$(BUILD) $(PYTHON) tests/e2e/page_scenes.py $(BUILD)/page-looks
	@echo "$(BUILD)/page-looks/*.png"

# aarch64: built by a cross compiler against the libraries in .deps/aarch64, its C tests under qemu-user.
# What starts programs needs a kernel that runs aarch64, and simulated years need hours there.
CROSS      := aarch64-linux-gnu
CROSS_ROOT := .deps/aarch64/usr
CROSS_VARS := MPICC= V=release BUILD=build/aarch64 CC=$(CROSS)-gcc AR=$(CROSS)-ar \
              INC="-Isrc -Iinclude -Itests -isystem $(CROSS_ROOT)/include -isystem $(CROSS_ROOT)/include/$(CROSS)" \
              LIBS="$(foreach l,sodium jansson sqlite3 yaml z nghttp2,$(CROSS_ROOT)/lib/$(CROSS)/lib$(l).a) -lm -ldl -pthread"
CROSS_LEAVE := $(foreach t,cli/supervise cli/up launch/proc launch/run launch/sandbox runtime/isolate \
                 $(addprefix pipeline/,loop people release restart tidy training),$(t)_test=starts_programs_or_reads_their_memory) \
               $(foreach t,stats/edetect_null stats/edetect_delay,$(t)_test=simulates_years)
cross-test: deps-cross
	@$(MAKE) --no-print-directory WERROR=1 -j2 $(CROSS_VARS) build/aarch64/overtake unit-bins fuzz-bins
	@BUILD=build/aarch64 RUN="qemu-aarch64-static -L /usr/$(CROSS)" LEAVE="$(CROSS_LEAVE)" LIMIT_S=1200 tools/test.sh unit

BENCH_BIN := $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/*.c))
$(BUILD)/bench/%: bench/%.c $(ARCHIVES)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -rdynamic -o $@ $< -Wl,--start-group $(ARCHIVES) -Wl,--end-group $(LIBS)
bench: deps deps-tools deps-torch deps-mpi
	@$(MAKE) --no-print-directory -j2 all $(BENCH_BIN) $(BUILD)/tests/unit/stats/edetect_null_test $(BUILD)/tests/unit/stats/edetect_delay_test
	@PYTHON=$(PYTHON) BUILD=$(BUILD) tools/bench.sh

install: all
	install -D -m 755 $(BUILD)/overtake $(DESTDIR)$(PREFIX)/bin/overtake
	for p in $(PLUGIN_SO); do install -D -m 755 $$p $(DESTDIR)$(PREFIX)/lib/overtake/plugins/$$(basename $$p); done
	install -D -m 755 $(BUILD)/libovertake.so $(DESTDIR)$(PREFIX)/lib/libovertake.so.1
	ln -sf libovertake.so.1 $(DESTDIR)$(PREFIX)/lib/libovertake.so
	$(if $(MPICC),install -D -m 755 $(ENGINE_SO) $(DESTDIR)$(PREFIX)/lib/libovertake_mpi.so)
	install -D -m 755 $(BUILD)/libovertake_tf.so $(DESTDIR)$(PREFIX)/lib/libovertake_tf.so
	for h in include/overtake/*.h; do install -D -m 644 $$h $(DESTDIR)$(PREFIX)/include/overtake/$$(basename $$h); done

# Where podman or docker is; deploy/Containerfile needs nothing else.
.PHONY: container
container:
	@engine=$$(command -v podman || command -v docker) || { echo "container: neither podman nor docker is installed" >&2; exit 1; }; \
	    $$engine build -f deploy/Containerfile -t overtake:$(VERSION) .

# --- the wheel ----------------------------------------------------------------------------------
# Debian's libraries are linked in, so that it runs where they are not; hidden, so that a framework in
# the same process keeps its own. libjansson.a holds code that no shared library can take in: it lies
# beside libovertake.so. dist/*.whl are the results: overtake, and overtake-horovod.
STATIC   := sodium jansson sqlite3 yaml z nghttp2
LIB_FILE  = $(shell $(CC) -print-file-name=$(1))
DIST_DEB := libsodium-dev libjansson-dev libsqlite3-dev libyaml-dev zlib1g-dev libnghttp2-dev
VERSION  := $(shell sed -n 's/.*OT_VERSION "\(.*\)"/\1/p' src/cli/commands.h)
D        := $(BUILD)/dist
STRIP    ?= strip
OBJDUMP  ?= objdump
DOCS     ?= /usr/share/doc
DIST     ?= dist

$(D)/overtake: $(patsubst %.c,$(BUILD)/%.o,$(wildcard src/*.c)) $(ARCHIVES)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -rdynamic -s -Wl,--exclude-libs,ALL -o $@ $(filter %.o,$^) \
	    $(foreach m,$(MODULES),$(BUILD)/lib/$(m).a) $(foreach l,$(STATIC),$(call LIB_FILE,lib$(l).a)) -lm -ldl -pthread

$(D)/libovertake.so: $(patsubst %.c,$(BUILD)/%.o,$(wildcard src/model/*.c src/collective/*.c src/input/*.c)) $(foreach m,stats codec base,$(BUILD)/lib/$(m).a)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -shared -s -Wl,-z,defs -Wl,-soname,libovertake.so.1 -Wl,--exclude-libs,ALL \
	    -Wl,-rpath,'$$ORIGIN' -o $@ $^ $(call LIB_FILE,libsodium.a) $(call LIB_FILE,libz.a) $(call LIB_FILE,libjansson.so) -lm -pthread

$(D)/libjansson.so.4: $(D)/libovertake.so
	cp $(call LIB_FILE,libjansson.so.4) $@

$(D)/libovertake_tf.so: $(BUILD)/libovertake_tf.so
	@mkdir -p $(@D)
	$(STRIP) -o $@ $<

$(D)/plugins/%.so: $(BUILD)/plugins/%.so
	@mkdir -p $(@D)
	$(STRIP) -o $@ $<

.PHONY: dist
dist: deps-debian deps-page
	@$(MAKE) --no-print-directory wheel
.PHONY: wheel
wheel: $(D)/overtake $(D)/libovertake.so $(D)/libjansson.so.4 $(D)/libovertake_tf.so $(foreach p,$(PLUGINS),$(D)/plugins/overtake_$(p).so)
	@python3 tools/wheel.py --version $(VERSION) --program $(D)/overtake --library $(D)/libovertake.so $(D)/libjansson.so.4 $(D)/libovertake_tf.so \
	    --plugin $(foreach p,$(PLUGINS),$(D)/plugins/overtake_$(p).so) --licences $(DIST_DEB) --docs $(DOCS) --objdump $(OBJDUMP) --out $(DIST)
