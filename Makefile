# Millrace: everything a developer or CI runs. `make` alone says what there is.
# Progress goes to standard error, so that a target's own output is all there is on standard output.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules
.DELETE_ON_ERROR:

export PATH := $(CURDIR)/node_modules/.bin:$(PATH)

CLANG ?= clang-16
STRIP ?= llvm-strip-16
# The kernel's headers of this architecture hold asm/types.h; padding is an error because map values are compared as bytes.
BPF_CFLAGS := -target bpf -mcpu=v3 -O2 -g -Wall -Werror -Wpadded -ffile-prefix-map=$(CURDIR)=. \
	-idirafter /usr/include/$(shell uname -m)-linux-gnu

OBJECTS := $(patsubst bpf/%.c,build/bpf/%.o,$(wildcard bpf/*.bpf.c))
HEADERS := $(wildcard bpf/*.h)

say = printf '  %-6s %s\n' '$(1)' '$(2)' >&2

.PHONY: help setup bpf build bundle check test flood mutations bench bench-api bench-cluster bench-failover bench-ways demo cluster cluster-programs cluster-down test-cluster conformance conformance-programs kube-proxy-tables image test-image kind kind-down kernels kernels-ci docs chart test-chart clean format test-prometheus dashboards

help: ## This page
	@echo 'Millrace. Usage: make TARGET'
	@echo
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)$$/\1|\2/p' Makefile | while IFS='|' read -r name what; do printf '  make %-12s %s\n' "$$name" "$$what"; done
	@echo
	@echo 'A fresh clone needs nothing before: test, bench and demo set up and build by themselves.'

setup: ## Install what this machine lacks: Debian packages (as root) and npm packages with Node 24
	@scripts/setup.sh >&2

bpf: src/datapath/layout.gen.ts ## Compile the eBPF objects and generate the struct layouts from them

# By rename: another make, or an agent that starts meanwhile, never sees half an object.
build/bpf/%.bpf.o: bpf/%.bpf.c $(HEADERS) Makefile
	@$(call say,CLANG,$@)
	@mkdir -p $(@D)
	@new=$@.$$$$; trap 'rm -f $$new' EXIT; $(CLANG) $(BPF_CFLAGS) -c $< -o $$new && $(STRIP) -g $$new && mv $$new $@

src/datapath/layout.gen.ts: $(OBJECTS) scripts/generate-layout.ts src/datapath/layout.ts src/datapath/objects.ts
	@$(call say,LAYOUT,$@)
	@node scripts/generate-layout.ts >&2
	@touch $@

build: setup ## Bundle dist/: the executable dist/millrace, its modules and the eBPF objects
	@mkdir -p build
	@flock build/.lock $(MAKE) bundle

bundle: bpf
	@$(call say,BUNDLE,dist/)
	@node scripts/build.ts >&2

check: build ## Format, lint, types, layering, generated files, lock file
	@node scripts/check.ts

test: build ## Every test, those that need root and the kernel included, and the checks (one file: make test FILES=test/http)
	@status=0; node scripts/test.ts main $(FILES) || status=1; \
	[ -n '$(FILES)' ] || node scripts/check.ts format types layouts dashboards chart lock || status=1; exit $$status

flood: build ## Two million SYNs and as many UDP packets from random sources, by program and in a lab: no established flow ends, no handshake fails; 10,000 pairs of DNS questions from each kind of client, each answered
	@MILLRACE_FLOOD=2000000 MILLRACE_QUERIES=10000 REQUIRE_KERNEL=1 vitest run test/kernel/datapath/floods.test.ts test/kernel/datapath/wire.test.ts test/lab/flood.test.ts

mutations: build ## Mutated packets through every packet program (N=10000000, SEED=...)
	@MUTATIONS=$(or $(N),10000000) $(if $(SEED),SEED=$(SEED)) REQUIRE_KERNEL=1 vitest run test/kernel/mutation

bench: build ## Nanoseconds per packet, rows per second, memory; the same as JSON in build/bench.json
	@node bench/main.ts --json build/bench.json

bench-api: build ## Start, memory and lag over an API of 10,000 x 10 up to 1,000 x 1,000 endpoints
	@node bench/api.ts

demo: ## Three nodes, every example manifest, one line for each (ONCE=1: then take all down and exit)
	@$(MAKE) build >&2
	@exec dist/millrace lab demo $(if $(filter 1,$(ONCE)),--once)

# KUBERNETES=1.34: the older of the two versions that the targets about clusters know. THROUGH=daemonset: agents in the pods of
# deploy/millrace.yaml, from the image that `make image` has left, instead of as programs beside the kubelet.
export KUBERNETES THROUGH

cluster: cluster-programs ## A real cluster in namespaces (PROXY=millrace|nftables|iptables|none, CNI=ptp|bridge, NAME=cluster)
	@node test/cluster/main.ts up $(if $(PROXY),--proxy $(PROXY)) $(if $(CNI),--cni $(CNI)) $(if $(NAME),--name $(NAME))

# Kubernetes, etcd and CoreDNS are built from source once, which takes minutes, and kept in .cache/.
cluster-programs: build
	@test/cluster/setup.sh >&2
	@mkdir -p .cache/cluster
	@flock .cache/cluster/.lock node test/cluster/main.ts build

cluster-down: setup ## Take the cluster away (NAME=cluster)
	@node test/cluster/main.ts down $(if $(NAME),--name $(NAME))

test-cluster: cluster-programs ## The tests that need a real cluster (one file: make test-cluster FILES=test/cluster/cluster)
	@node scripts/test.ts cluster $(FILES)

test-prometheus: cluster-programs ## Rules, dashboards and scrapes by Debian's Prometheus, on a lab and a cluster (one file: FILES=test/prometheus/live/lab)
	@test/prometheus/setup.sh >&2
	@REQUIRE_KERNEL=1 node scripts/test.ts prometheus $(FILES)

conformance: conformance-programs ## Kubernetes' own specs about Services (PROXY=millrace|nftables, FOCUS=regex, PROCS=5; a quarter of an hour)
	@node test/conformance/main.ts $(if $(PROXY),--proxy $(PROXY)) $(if $(FOCUS),--focus '$(FOCUS)') $(if $(PROCS),--procs $(PROCS)) $(if $(NAME),--name $(NAME))

conformance conformance-programs kube-proxy-tables: KUBERNETES :=
conformance-programs: build
	@test/cluster/setup.sh >&2
	@mkdir -p .cache/cluster
	@flock .cache/cluster/.lock node test/cluster/main.ts build --images conformance

kube-proxy-tables: build ## kube-proxy's own tests of endpoints and packets, asked of our model and our programs
	@node test/conformance/tables/main.ts
	@node node_modules/vitest/vitest.mjs run --config test/conformance/tables/vitest.config.ts

image: build ## An image without Docker or a registry: build/millrace-image-ARCH.tar, for docker load, ctr and kind (ARCH=amd64|arm64)
	@test/kind/setup.sh mmdebstrap >&2
	@node scripts/image.ts archive $(if $(ARCH),--arch $(ARCH))

test-image: image ## The image as Docker and containerd take it, built twice, by the Dockerfile, and for the other architecture
	@test/kind/setup.sh >&2
	@mkdir -p .cache/kind
	@flock .cache/kind/.lock node node_modules/vitest/vitest.mjs run --config test/image/vitest.config.ts

kind: image ## kind clusters without a registry: install, every example, every way to a Service, upgrade, uninstall (SCENARIO=name, KEEP=1)
	@test/kind/setup.sh >&2
	@mkdir -p .cache/kind .cache/cluster
	@flock .cache/kind/.lock node test/kind/main.ts test $(if $(filter 1,$(KEEP)),--keep) $(SCENARIO)

kind-down: setup ## Take the kind clusters and their Docker away
	@node test/kind/main.ts down

bench-cluster: cluster-programs ## From a write to the API to the first connection, Millrace beside kube-proxy (takes half an hour)
	@node bench/latency.ts

# What clients and servers run: a program of this machine, not of the kernel's.
build/ways: bench/ways.c
	@$(call say,CLANG,$@)
	@mkdir -p $(@D)
	@$(CLANG) -O2 -Wall -Wextra -Werror $< -o $@

bench-ways: cluster-programs build/ways ## Direct and Service connections beside kube-proxy and no proxy, as ratios (PAIRS=30; ten minutes)
	@node bench/ways.ts --json build/bench-ways.json $(if $(PAIRS),--pairs $(PAIRS)) $(if $(ONLY),--only '$(ONLY)')

bench-failover: cluster-programs ## How long an address goes unanswered when its node dies, Millrace beside MetalLB (RUNS=20, ONLY=regex, PRODUCTS=list)
	@node bench/failover.ts $(if $(RUNS),--runs $(RUNS)) $(if $(ONLY),--only '$(ONLY)') $(if $(PRODUCTS),--products $(PRODUCTS))

kernels: build ## Debian's 5.10, 6.1, 6.12, 7.x in QEMU: programs, tests, paths (KERNELS="6.1 5.10", QUICK=1: loads, flow states, paths; FILES="test/kernel/...": these alone, records nothing)
	@test/kernels/setup.sh >&2
	@mkdir -p .cache/kernels
	@flock .cache/kernels/.lock node test/kernels/main.ts $(if $(filter 1,$(QUICK)),--quick) $(foreach file,$(FILES),--file $(file)) $(KERNELS)

kernels-ci: build ## Every program on Debian's 6.1 and 5.10, flow states on 6.1; fails when the deepest chain of calls leaves no room
	@test/kernels/setup.sh >&2
	@mkdir -p .cache/kernels build
	@rm -f build/results-kernels.json
	@flock .cache/kernels/.lock node test/kernels/main.ts --ci

docs: setup ## Write what is generated of the documentation: command line, metrics, semantics, reference configuration, kernels
	@node scripts/docs.ts

# helm is built from its Go modules, a minute for each, and kept in .cache/.
chart: setup ## Render deploy/helm/millrace: deploy/millrace.yaml, rbac.yaml, controller.yaml, crds.yaml, kustomize/
	@mkdir -p .cache/helm
	@flock .cache/helm/.lock scripts/helm.sh 3 >&2
	@node scripts/chart.ts render .cache/helm/helm-3

test-chart: build ## The chart by Helm 3 and 4: lint, schema, every value, kustomize
	@mkdir -p .cache/helm
	@flock .cache/helm/.lock scripts/helm.sh 3 4 >&2
	@node node_modules/vitest/vitest.mjs run --config test/chart/helm/vitest.config.ts

dashboards: setup ## Write the dashboards of deploy/grafana from scripts/dashboards
	@node scripts/dashboards.ts

format: ## Format and fix what can be fixed
	@biome check --write --log-level=warn .

clean: ## Remove what was built (node_modules and .cache stay)
	@rm -rf build dist
