# Overtake. `make` builds, `make demo` shows the loop, `make test` proves it.
# One Makefile, not recursive; objects and their dependencies lie in $(BUILD).
#   V=release (default) | asan | tsan     WERROR=1 turns warnings into errors
V       ?= release
BUILD   ?= build/$(V)
CC      ?= gcc
PREFIX  ?= /usr/local
PYTHON  ?= .deps/venv/bin/python
PKGS    := libsodium jansson sqlite3 yaml-0.1 zlib

# Rows of the architecture, lowest first: a folder includes only from itself and from the rows that
# its line names (docs/architecture.md; tools/layers.py checks the includes).
ROW_base     :=
ROW_store    := base
ROW_net      := base
ROW_stats    := base
ROW_codec    := base
ROW_model    := stats codec $(ROW_codec)
LOW          := model store net stats codec base
ROW_registry := $(LOW)
ROW_runtime  := $(LOW)
ROW_launch   := $(LOW)
MID          := registry runtime launch $(LOW)
ROW_serve    := $(MID)
ROW_quality  := $(MID)
ROW_rollout  := $(MID)
HIGH         := serve quality rollout $(MID)
ROW_pipeline := $(HIGH)
ROW_fleet    := $(HIGH)
TOP          := pipeline fleet $(HIGH)
ROW_api      := $(TOP)
ROW_cli      := $(TOP)
MODULES      := api cli $(TOP)

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
        -Wvla -Wundef -Wcast-qual -Wformat=2 -Wno-format-truncation $(if $(WERROR),-Werror)
OPT_release := -O2 -g
OPT_asan    := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OPT_tsan    := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
GENERATED   := $(BUILD)/gen
INC     := -Isrc -Iinclude -I$(GENERATED) $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
CFLAGS  ?=
ALL_CFLAGS := -std=c17 -D_GNU_SOURCE -fPIC -fvisibility=hidden -ffp-contract=off -pthread $(WARN) \
              $(OPT_$(V)) $(INC) $(CFLAGS)
LIBS    := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lm -ldl -pthread

SRC      := $(wildcard src/*.c $(foreach m,$(MODULES),src/$(m)/*.c))
OBJ      := $(SRC:%.c=$(BUILD)/%.o)
ARCHIVES := $(foreach m,$(MODULES),$(BUILD)/lib/$(m).a)
UNIT_SRC := $(wildcard tests/unit/*/*_test.c)
UNIT_BIN := $(UNIT_SRC:%.c=$(BUILD)/%)
FUZZ_SRC := $(wildcard tests/fuzz/*_fuzz.c)
PLUGINS  := $(patsubst plugins/%/,%,$(dir $(wildcard plugins/*/*.c)))
PLUGINS  := $(sort $(PLUGINS))
PLUGIN_SO := $(foreach p,$(PLUGINS),$(BUILD)/plugins/overtake_$(p).so)

.PHONY: all
all: $(BUILD)/overtake $(PLUGIN_SO)

.SECONDARY:
.SECONDEXPANSION:

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

# Thin archives would save a copy, but a plain one survives being moved with the build folder.
$(BUILD)/lib/%.a: $$(patsubst %.c,$(BUILD)/%.o,$$(wildcard src/$$*/*.c))
	@mkdir -p $(@D)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/overtake: $(patsubst %.c,$(BUILD)/%.o,$(wildcard src/*.c)) $(ARCHIVES)
	$(CC) $(ALL_CFLAGS) -rdynamic -o $@ $(filter %.o,$^) \
	    $(foreach m,$(MODULES),$(BUILD)/lib/$(m).a) $(LIBS)

$(BUILD)/plugins/overtake_%.so: $$(patsubst %.c,$(BUILD)/%.o,$$(wildcard plugins/$$*/*.c))
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -shared -o $@ $^ -ldl -lm -pthread

# A unit test links its own folder and the rows below it: what it could not reach in the product it
# cannot reach here.
$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o \
        $$(foreach m,$$(firstword $$(subst /, ,$$*)) $$(ROW_$$(firstword $$(subst /, ,$$*))),$(BUILD)/lib/$$(m).a)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -rdynamic -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS)
$(BUILD)/tests/unit/%.o: INC += -Itests

-include $(OBJ:.o=.d) $(UNIT_BIN:=.d)
