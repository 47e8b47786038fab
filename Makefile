# All that is done with this repository. `make help` lists the targets.
#
# It needs make and Go; whatever else a target lacks it installs, and says so: tools into
# .build/tools (pinned here, kept in the user's cache so that another clone finds them),
# Debian packages by apt-get where it may. Nothing is written outside .build and the caches
# but by `generate` and `format`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

GO ?= go
GOVERSION := $(shell $(GO) env GOVERSION)
MODULE := github.com/berthd/berth
BUILD := .build
TOOLS := $(BUILD)/tools

# The product needs no C compiler; only the race detector does, and switches cgo on itself.
export CGO_ENABLED := 0
# Traces and captured machines that some tests and benchmarks read when they are there.
ifneq ($(wildcard ../shared/data),)
export BERTH_TESTDATA ?= $(abspath ../shared/data)
endif

# Empty: what package command says. The commit is taken from git by Go itself, where there is git.
VERSION ?= $(patsubst v%,%,$(shell git describe --tags --match 'v*' 2>/dev/null))
LDFLAGS = -s -w $(if $(VERSION),-X $(MODULE)/command.Version=$(VERSION))
BUILDVCS = $(if $(shell git rev-parse HEAD 2>/dev/null),true,false)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##### Tools, pinned

tool_buf := github.com/bufbuild/buf/cmd/buf@v1.75.0
tool_golangci-lint := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.14.0
tool_protoc-gen-go := google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
tool_protoc-gen-go-grpc := google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.0
tool_protoc-gen-grpc-gateway := github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway@v2.32.0
tool_protoc-gen-openapiv3 := github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv3@v2.32.0

# A tool is made anew when its pin or the Go version changes: both are in its stamp's name.
tool = $(foreach t,$(1),$(TOOLS)/.$(t)@$(lastword $(subst @, ,$(tool_$(t))))-$(GOVERSION))
$(TOOLS)/.%:
	@hack/tool $(tool_$(firstword $(subst @, ,$*))) $@

##### Build and run

.PHONY: build
build: ## Build the static binary .build/berth (VERSION=... to name it)
	$(GO) build -trimpath -buildvcs=$(BUILDVCS) -ldflags '$(LDFLAGS)' -o $(BUILD)/berth ./cmd/berth

.PHONY: dev
dev: build ## Start a server and an agent in one process on loopback, and stay
	$(BUILD)/berth agent -dev

.PHONY: demo
demo: build ## Show a cluster at work and what it survives, in under 90 s
	@hack/need curl curl
	@hack/need pgrep procps
	@for need in 'qemu-system-x86_64 qemu-system-x86' 'qemu-img qemu-utils'; do hack/need $$need || echo 'the demo shows no virtual machine'; done
	$(GO) build -o $(BUILD)/hello ./examples/hello
	$(GO) run ./hack/guest $(BUILD)/tiny.img || rm -f $(BUILD)/tiny.img
	BERTH_BINARY=$(abspath $(BUILD)/berth) ./e2e/demo/demo.sh

.PHONY: clean
clean: ## Remove what was built here (tools stay in the user's cache)
	rm -rf $(BUILD)

##### Test

# Where goroutines meet: tested once more with the race detector, with fewer rounds of what
# is random (-short); unit has all rounds of everything. PURE are those of them in which no
# goroutine is started, nor in their tests. Without the race detector: STAGES="unit e2e".
RACE ?= server agent plugins drivers client e2e/virtual
PURE ?= server/api/internal server/fsm server/rows agent/disk agent/inventory agent/template \
	drivers/cgroup drivers/cloudinit drivers/config drivers/logs drivers/qemu/guest
# bbolt reads its pages by pointer; the tests that damage them on purpose would end the
# whole process (checkptr comes with -race) where the product gets an error.
CHECKPTR = -gcflags=go.etcd.io/bbolt/...=-d=checkptr=0
STAGES ?= lint check-generate layering vet unit race plugin-example e2e
TESTFLAGS ?= -timeout 15m
TESTSUM = $(BUILD)/testsum
PACKAGES = $(GO) list ./... | grep -vE '^$(MODULE)/(e2e|internal/layering)$$'
space := $(subst ,, )
below = ^$(MODULE)/($(subst $(space),|,$(strip $(1))))(/|$$)

.PHONY: test
test: ## Run all that CI runs (STAGES="unit e2e" for a part of it)
	@rm -rf $(BUILD)/results
	@hack/stages $(STAGES)

.PHONY: layering
layering: testsum
	$(TESTSUM) -o $(BUILD)/results/layering.json -- ./internal/layering

.PHONY: vet
vet:
	$(GO) vet ./...

.PHONY: unit
unit: testsum qemu
	$(TESTSUM) -o $(BUILD)/results/unit.json -- $(TESTFLAGS) $$($(PACKAGES))

# What tests of virtual machines run; those that lack something are skipped, and say so.
.PHONY: qemu
qemu:
	@for need in 'qemu-system-x86_64 qemu-system-x86' 'qemu-img qemu-utils' '/usr/share/OVMF/OVMF_CODE_4M.fd ovmf' \
		'qemu-system-aarch64 qemu-system-arm' '/usr/share/AAVMF/AAVMF_CODE.fd qemu-efi-aarch64'; do \
		hack/need $$need || echo 'tests of virtual machines that need it are skipped'; done

.PHONY: race
race: testsum qemu
	@hack/need gcc gcc libc6-dev
	CGO_ENABLED=1 GORACE='suppressions=$(CURDIR)/hack/race-suppressions' $(TESTSUM) -o $(BUILD)/results/race.json -- -race -short $(CHECKPTR) $(TESTFLAGS) $$($(PACKAGES) | grep -E '$(call below,$(RACE))' | grep -vE '$(call below,$(PURE))')

.PHONY: plugin-example
plugin-example: testsum
	@test -e examples/driver-plugin/go.mod || { echo 'examples/driver-plugin has no go.mod'; exit 1; }
	$(TESTSUM) -C examples/driver-plugin -o $(BUILD)/results/plugin-example.json -- $(TESTFLAGS) ./...

.PHONY: e2e
e2e: testsum build qemu
	BERTH_BINARY=$(abspath $(BUILD)/berth) $(TESTSUM) -o $(BUILD)/results/e2e.json -- $(TESTFLAGS) ./e2e

.PHONY: testsum
testsum:
	@$(GO) build -o $(TESTSUM) ./hack/testsum

FUZZTIME ?= 10s
.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (10s) each
	@hack/fuzz $(FUZZTIME)

BENCH ?= .
BENCHTIME ?= 100ms
BENCHMARKED ?= ./topology ./jobspec ./server/... ./agent ./drivers/exec
# Of the scheduler's only those that no sim bench below measures: with all sizes they take half an hour.
BENCHSCHEDULER ?= Jobs/.*nodes=10000/count=100|OneMore/.*/running=100$$
.PHONY: bench
bench: build ## Measure against the goals: the scheduler, the control plane, the agent (BENCH=regexp, BENCHTIME=1s)
	@GO='$(GO)' BERTH=$(BUILD)/berth hack/bench '$(BENCH)' '$(BENCHTIME)' '$(BENCHSCHEDULER)' $(BENCHMARKED)

##### Lint and generate

.PHONY: lint
lint: $(call tool,golangci-lint) ## Lint the Go code
	$(TOOLS)/golangci-lint run ./...
	if [ -e examples/driver-plugin/go.mod ]; then cd examples/driver-plugin && $(abspath $(TOOLS))/golangci-lint run ./...; fi

.PHONY: format
format: $(call tool,golangci-lint buf) ## Format the Go code and the protos
	$(TOOLS)/golangci-lint fmt ./...
	$(TOOLS)/buf format -w proto

GENERATORS := $(call tool,buf protoc-gen-go protoc-gen-go-grpc protoc-gen-grpc-gateway protoc-gen-openapiv3)

.PHONY: generate
generate: $(GENERATORS) googleapis ## Generate code and documents from the protos, after formatting and linting them
	$(TOOLS)/buf format -w proto
	$(TOOLS)/buf lint
	$(TOOLS)/buf generate
	$(GO) generate ./...

.PHONY: check-generate
check-generate: $(GENERATORS) googleapis ## Fail where generated files are not what generate makes
	@hack/check-generate

# The HTTP annotations come with a module; the Go package for them is another one.
GOOGLEAPIS := github.com/gogo/googleapis@v1.4.1
.PHONY: googleapis
googleapis: $(BUILD)/googleapis/google/api/annotations.proto $(BUILD)/googleapis/google/api/http.proto
$(BUILD)/googleapis/google/api/%.proto:
	@mkdir -p $(@D); \
	dir=$$(cd / && $(GO) mod download -json $(GOOGLEAPIS) | sed -n 's/.*"Dir": "\(.*\)".*/\1/p'); \
	sed 's|^option go_package = .*|option go_package = "google.golang.org/genproto/googleapis/api/annotations;annotations";|' "$$dir/google/api/$*.proto" > $@
