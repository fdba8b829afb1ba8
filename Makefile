# FlagCache. `make help` lists what there is to do.

# What is built, and where.
LOCALBIN := $(CURDIR)/bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GO_BUILD := go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'

# The directory of what is built to be published, within the repository.
DIST ?= dist

# The images that deploy and build-installer write into the manifests: by default, those
# that the manifests name.
MANIFEST_VERSION := $(shell sed -n 's|^ *image: ghcr.io/flagcache/manager:||p' config/manager/manager.yaml)
IMG ?= ghcr.io/flagcache/manager:$(MANIFEST_VERSION)
FLAG_SERVICE_IMG ?= ghcr.io/flagcache/flag-service:$(MANIFEST_VERSION)
CONTAINER_TOOL ?= docker

# The platforms of the images, and of kubectl's plugin.
PLATFORMS ?= linux/amd64 linux/arm64
PLUGIN_PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

# Tools of this repository, built from the versions in hack/tools. kubectl is
# the user's own; where there is none, `make KUBECTL="bin/kube kubectl" ...`.
CONTROLLER_GEN := $(LOCALBIN)/controller-gen
KUSTOMIZE := $(LOCALBIN)/kustomize
CRD_REF_DOCS := $(LOCALBIN)/crd-ref-docs
GOLANGCI_LINT := $(LOCALBIN)/golangci-lint
ACTIONLINT := $(LOCALBIN)/actionlint
GOVULNCHECK := $(LOCALBIN)/govulncheck
KWOK := $(LOCALBIN)/kwok
KUBECTL ?= kubectl

# What the end-to-end tests, the demo and the benchmarks start.
KUBE := $(LOCALBIN)/kube
MANAGER := $(LOCALBIN)/manager
FLAG_SERVICE := $(LOCALBIN)/flag-service
# ACK's controller: as it is released, and polling every second instead of every 30.
ACK := $(LOCALBIN)/ack/controller
ACK_1S := $(LOCALBIN)/ack-1s/controller
export KUBE MANAGER FLAG_SERVICE ACK ACK_1S KWOK

# envtest takes the API server that KUBEBUILDER_ASSETS points at, else ours.
ifndef KUBEBUILDER_ASSETS
KUBEBUILDER_ASSETS := $(LOCALBIN)/envtest
TEST_API_SERVER := envtest
endif
export KUBEBUILDER_ASSETS

# Further flags of go test, such as GO_TEST_FLAGS='-run Probe'.
GO_TEST_FLAGS ?=

# A CRD over this many bytes comes too close to the 262,144 that a client-side
# `kubectl apply` can keep in its annotation.
CRD_SIZE_LIMIT := 200000

# Programs and tests are built with the same settings, so that each package is compiled
# once. The race detector needs cgo: make test-unit CGO_ENABLED=1 GO_TEST_FLAGS=-race.
export CGO_ENABLED ?= 0
export GOFLAGS ?= -trimpath

SHELL := /usr/bin/env bash -o pipefail
.SHELLFLAGS := -ec

.PHONY: all
all: build

##@ General

.PHONY: help
help: ## Display this help.
	@awk 'BEGIN {FS = ":.*##"; printf "\nUsage:\n  make \033[36m<target>\033[0m\n"} /^[a-zA-Z_0-9-]+:.*?##/ { printf "  \033[36m%-16s\033[0m %s\n", $$1, $$2 } /^##@/ { printf "\n\033[1m%s\033[0m\n", substr($$0, 5) } ' $(MAKEFILE_LIST)

DEMO := go run ./hack/demo

# The cache type of the demo: incluster, or elasticache, in a simulated AWS.
CACHE ?= incluster

.PHONY: demo
demo: demo-cache kube build $(if $(filter elasticache,$(CACHE)),ack awsplayer) ## Demonstrate FlagCache on a local cluster; CACHE=elasticache also runs ACK and simulates AWS.
	@hack/setup/redis.sh || echo "Continuing with the built-in Redis server of the demo."
	$(DEMO) --cache=$(CACHE)

.PHONY: demo-cache
demo-cache: # Validates CACHE before the build, which takes minutes.
	@case '$(CACHE)' in incluster|elasticache) ;; *) \
		echo "CACHE is '$(CACHE)'; it must be incluster or elasticache." >&2; exit 2 ;; \
	esac

.PHONY: dev
dev: kube build ## Start a local cluster with the operator and leave it running.
	@hack/setup/redis.sh || echo "Continuing with the built-in Redis server."
	$(DEMO) dev

.PHONY: dev-down
dev-down: ## Stop the cluster that was started by dev.
	$(DEMO) down

##@ Development

.PHONY: generate
generate: $(CONTROLLER_GEN) ## Generate the DeepCopy methods of the API types and of the ACK types.
	$(CONTROLLER_GEN) object:headerFile=hack/boilerplate.go.txt paths=./api/... paths=./controllers/ack

.PHONY: manifests
manifests: $(CONTROLLER_GEN) $(CRD_REF_DOCS) ## Generate the CRD, the RBAC role, docs/api.md, docs/conditions.md, the tables of docs/elasticache.md and the schema of the policy.
	$(CONTROLLER_GEN) crd paths=./api/... output:crd:artifacts:config=config/crd/bases
	go run ./hack/crdbounds
	$(CONTROLLER_GEN) rbac:roleName=manager-role paths=./controllers/... output:rbac:artifacts:config=config/rbac
	$(CRD_REF_DOCS) --source-path=api --config=hack/tools/crd-ref-docs/config.yaml \
		--templates-dir=hack/tools/crd-ref-docs/templates --renderer=markdown \
		--output-path=docs/api.md --log-level=ERROR
	go run ./hack/conditions
	go run ./hack/ackfields
	go run ./hack/packages
	go run ./hack/policyschema

.PHONY: fmt
fmt: ## Format the Go code.
	go fmt ./...

.PHONY: vet
vet: ## Run go vet.
	go vet ./...
	cd hack/tools && go vet ./...
	cd hack/tools/supplychain && go vet ./...
	cd test/flagd && go vet ./...
	cd test/gitops && go vet ./...

.PHONY: lint
lint: $(GOLANGCI_LINT) $(ACTIONLINT) ## Run the linters.
	$(GOLANGCI_LINT) run
	$(ACTIONLINT)

# The database of vulnerabilities is on the internet, and changes every day.
.PHONY: vulncheck
vulncheck: $(GOVULNCHECK) ## Search for known vulnerabilities that the programs can reach.
	$(GOVULNCHECK) ./cmd/...

.PHONY: lint-fix
lint-fix: $(GOLANGCI_LINT) ## Run the linters and apply automatic fixes.
	$(GOLANGCI_LINT) run --fix

.PHONY: lint-config
lint-config: $(GOLANGCI_LINT) ## Verify the configuration of the linters.
	$(GOLANGCI_LINT) config verify

# The end-to-end tests wait most of the time, so the unit tests run beside them; the
# output of each appears when it is done. Tests that compare latencies run alone. Servers
# are installed before, because a package manager runs only once at a time.
.PHONY: test
test: $(TEST_API_SERVER) $(KUSTOMIZE) ack redis postgres prometheus providers ## Run all tests; builds and installs what they need.
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-packages test-e2e test-release
	@$(MAKE) --no-print-directory test-flagd
	@$(MAKE) --no-print-directory test-gitops
	@$(MAKE) --no-print-directory test-chaos
	@$(MAKE) --no-print-directory test-churn
	@echo "All tests passed: unit, envtest and end-to-end."

.PHONY: test-unit
test-unit: $(TEST_API_SERVER) ## Run the unit tests, and the integration tests against a real API server.
	@$(MAKE) --no-print-directory test-packages
	@$(MAKE) --no-print-directory test-flagd
	@$(MAKE) --no-print-directory test-gitops
	@$(MAKE) --no-print-directory test-release
	@$(MAKE) --no-print-directory test-chaos

# Vet is a part of make verify.
GO_TEST := go test -vet=off -ldflags='-s -w' -timeout 15m

# Packages that take longest begin first, and more packages run at a time than there
# are cores, because many wait for servers.
SLOW_PACKAGES := ./test/fault ./test/acklives ./controllers ./controllers/plan

.PHONY: test-flagd
test-flagd: # A module of its own: flagd requires modules that nothing else needs.
	cd test/flagd && $(GO_TEST) ./...

.PHONY: test-gitops
test-gitops: # A module of its own: Flux requires modules that nothing else needs.
	cd test/gitops && $(GO_TEST) ./...

.PHONY: test-release
test-release: $(KUSTOMIZE) # A module of its own. The images of arm64 are built by make images.
	cd hack/tools/supplychain && $(GO_TEST) $(GO_TEST_FLAGS) ./...

.PHONY: test-packages
test-packages: ack redis postgres prometheus providers # The tests of all packages but those of other targets.
	$(GO_TEST) -p 4 $(GO_TEST_FLAGS) $(SLOW_PACKAGES) $$(go list ./... | grep -v -e /test/e2e -e /test/chaos -e '/test/churn$$')

.PHONY: test-chaos
test-chaos: redis postgres # Short faults for the flag service; make chaos runs longer ones.
	$(GO_TEST) $(GO_TEST_FLAGS) ./test/chaos

.PHONY: test-churn
test-churn: kube build redis $(KWOK) # A minute of churn with 30 FlagCaches; make churn is a long one with 300.
	$(GO_TEST) -count=1 $(GO_TEST_FLAGS) ./test/churn

# How many processes share the cluster of the end-to-end tests, further flags of ginkgo,
# such as GINKGO_FLAGS='--focus "A canary"', and of the tests: -update.
E2E_PROCS ?= 3
GINKGO_FLAGS ?=
E2E_FLAGS ?=

.PHONY: test-e2e
test-e2e: kube build ack awsplayer redis ## Run the end-to-end tests on a local cluster.
	go run github.com/onsi/ginkgo/v2/ginkgo --procs=$(E2E_PROCS) --timeout=40m $(GINKGO_FLAGS) ./test/e2e $(if $(E2E_FLAGS),-- $(E2E_FLAGS))

# About how many plans are run (FAULT_PLANS=all runs every one), and the seed that
# selects them.
FAULT_PLANS ?= 24000
FAULT_SEED ?= 1

.PHONY: fault
fault: fault-plans mutants ## Fail every call of the operator in every way, then seed bugs and check that they are found.

# How many disturbances make explore tries in each World, and after how many states of
# it it ends.
EXPLORE_DISTURBANCES ?= 2
EXPLORE_STATES ?= 10000000

.PHONY: explore
explore: ## Explore every order of disturbances in small Worlds, and print the shortest counterexamples.
	EXPLORE_DISTURBANCES=$(EXPLORE_DISTURBANCES) EXPLORE_STATES=$(EXPLORE_STATES) go test -count=1 -timeout 24h -v -run '^TestExplore$$' ./test/fault

.PHONY: fault-plans
fault-plans: # The plans of make fault.
	FAULT_PLANS=$(FAULT_PLANS) FAULT_SEED=$(FAULT_SEED) go test -count=1 -timeout 20m -v -run '^TestConvergence$$' ./test/fault | grep -v '^=== \|--- PASS\|plans, 0 bad$$'

.PHONY: mutants
mutants: $(TEST_API_SERVER) # The seeded bugs of make fault.
	go run ./hack/mutants

# How long each fuzz target runs, how many of the packages' targets run (a number
# or all), and the seed that selects them.
FUZZ_TIME ?= 30s
FUZZ_TARGETS ?= all
FUZZ_SEED ?= $(shell date +%s)
FUZZ_PACKAGES ?= ./service/flags ./service/ofrep ./service/flagd

.PHONY: fuzz
fuzz: ## Fuzz the flag parser, the evaluator and the decoders of OFREP and flagd.
	hack/fuzz.sh $(FUZZ_TIME) $(FUZZ_TARGETS) $(FUZZ_SEED) $(FUZZ_PACKAGES)

.PHONY: load
load: redis postgres ## Load test a flag service with Redis and PostgreSQL (50 concurrent requests for 30 s).
	LOAD_SECONDS=30 LOAD_P95_MS=50 go test -count=1 -v -run '^TestLoad$$' ./test/chaos

# How long each fault lasts, and how many requests a second each instance gets.
CHAOS_SECONDS ?= 20
CHAOS_RATE ?= 500

.PHONY: chaos
chaos: redis postgres ## Inject faults into the dependencies of three flag services under load (fifteen minutes).
	CHAOS_SECONDS=$(CHAOS_SECONDS) CHAOS_RATE=$(CHAOS_RATE) go test -count=1 -timeout 30m -v ./test/chaos

# How long the FlagCaches are edited, how many there are, and the seed of the edits and faults.
CHURN_SECONDS ?= 600
CHURN_FLAGCACHES ?= 300
CHURN_SEED ?=

.PHONY: churn
churn: kube build redis $(KWOK) ## Churn 300 FlagCaches of three tenants, one of them hostile, and inject faults (fifteen minutes).
	CHURN_SECONDS=$(CHURN_SECONDS) CHURN_FLAGCACHES=$(CHURN_FLAGCACHES) CHURN_SEED=$(CHURN_SEED) \
		go test -count=1 -timeout 60m -v -run '^TestChurn$$' ./test/churn

.PHONY: bench
bench: kube build redis $(KWOK) ## Benchmark the operator with 1, 100 and 1,000 FlagCaches.
	go run ./hack/bench

.PHONY: bench-scale
bench-scale: build redis $(TEST_API_SERVER) ## Benchmark the operator with 10,000 FlagCaches at rest (tens of minutes on two idle cores).
	go run ./hack/bench scale

.PHONY: bench-service
bench-service: build ## Benchmark the flag service against a bare net/http handler (two idle cores, Linux).
	go run ./hack/bench/service

.PHONY: bench-delivery
bench-delivery: kube build redis ## Benchmark the delivery of flags to 3 and 30 pods (a quarter of an hour).
	go run ./hack/bench/delivery $(BENCH_FLAGS)

.PHONY: bench-canary
bench-canary: ## Simulate canaries to measure false positives and detection times.
	go run ./hack/benchcanary

.PHONY: verify
verify: verify-tidy generate manifests verify-crd verify-docs vet lint ## Verify that generated files are committed, and run the linters.
	@changed=$$(git status --porcelain); \
	if [ -n "$$changed" ]; then \
		echo "$$changed"; git --no-pager diff --stat; \
		echo "The tree differs from its last commit: commit the files above (generated ones come from make generate manifests)." >&2; \
		exit 1; \
	fi
	@echo "Verified."

.PHONY: verify-tidy
verify-tidy: # hack/kube is left out: tidying its 2,850 dependencies takes longer than all the rest.
	go mod tidy -diff
	cd hack/tools && go mod tidy -diff
	cd hack/tools/golangci-lint && go mod tidy -diff
	cd hack/tools/kwok && go mod tidy -diff
	cd hack/tools/supplychain && go mod tidy -diff
	cd hack/tools/ack && go mod tidy -diff
	cd test/flagd && go mod tidy -diff
	cd test/gitops && go mod tidy -diff

.PHONY: verify-crd
verify-crd: manifests
	@for crd in config/crd/bases/*.yaml; do \
		size=$$(wc -c < "$$crd"); \
		if [ "$$size" -gt $(CRD_SIZE_LIMIT) ]; then \
			echo "$$crd has $$size bytes, over $(CRD_SIZE_LIMIT): a client-side kubectl apply would soon refuse it." >&2; exit 1; \
		fi; \
	done

.PHONY: verify-docs
verify-docs: manifests
	cd hack/tools && go run ./links $(CURDIR)

##@ Build

.PHONY: build
build: ## Build all programs in cmd/ into bin/.
	@mkdir -p $(LOCALBIN)
	@echo "Building the operator and the flag service; the first time it takes a minute or two."
	$(GO_BUILD) -o $(LOCALBIN)/ ./cmd/...

.PHONY: sbom
sbom: build ## Write the SBOM of each program in bin/, in SPDX, to dist/.
	@mkdir -p dist
	@for program in manager flag-service kubectl-flagcache; do \
		(cd hack/tools/supplychain && go run ./sbom $(LOCALBIN)/$$program) > dist/$$program.spdx.json; done

.PHONY: reproducible
reproducible: ## Build the programs twice from nothing and compare them (many minutes).
	REPRODUCE_FROM_NOTHING=1 go test -count=1 -timeout 60m -v -run '^TestBuildIsReproducible$$' ./test/supplychain

.PHONY: awsplayer
awsplayer: ## Build the simulator of ElastiCache's API into bin/.
	@mkdir -p $(LOCALBIN)
	$(GO_BUILD) -o $(LOCALBIN)/awsplayer ./test/awsplayer/cmd

.PHONY: run
run: install ## Run the operator locally against the cluster of the current kubeconfig.
	FLAG_SERVICE_IMAGE=$(FLAG_SERVICE_IMG) go run ./cmd/manager

# $(call cross-build,PLATFORMS,PACKAGES): without what Go would record of the repository,
# such as which tags a clone has, so that the same files result in the same programs.
define cross-build
@for platform in $(1); do \
	echo "Building $(2) for $$platform."; \
	mkdir -p $(DIST)/programs/$${platform/\//_}; \
	GOOS=$${platform%/*} GOARCH=$${platform#*/} $(GO_BUILD) -buildvcs=false -o $(DIST)/programs/$${platform/\//_}/ $(2); \
done
endef

# A command of the module hack/tools/supplychain.
SUPPLYCHAIN = cd hack/tools/supplychain && go run
comma := ,
space := $(subst ,, )

.PHONY: images
images: ## Build the images of the operator and the flag service, for all platforms, as OCI layouts in dist/images.
	$(call cross-build,$(PLATFORMS),./cmd/manager ./cmd/flag-service)
	@revision=$$(git rev-parse HEAD); created=$$(git log -1 --format=%cI); \
	$(SUPPLYCHAIN) ./images build -programs $(CURDIR)/$(DIST)/programs -out $(CURDIR)/$(DIST)/images \
		-version '$(VERSION)' -revision "$$revision" -created "$$created" -platforms '$(subst $(space),$(comma),$(strip $(PLATFORMS)))'
	@cat $(DIST)/images/digests.txt

.PHONY: push-images
push-images: images ## Build the images and push them as IMG and FLAG_SERVICE_IMG, with the credentials of docker login.
	$(SUPPLYCHAIN) ./images push $(CURDIR)/$(DIST)/images/manager $(IMG)
	$(SUPPLYCHAIN) ./images push $(CURDIR)/$(DIST)/images/flag-service $(FLAG_SERVICE_IMG)

.PHONY: docker-build
docker-build: PLATFORMS = linux/$(shell go env GOARCH)
docker-build: images ## Build the images of this machine's architecture, and load them into a container engine.
	$(SUPPLYCHAIN) ./images archive $(CURDIR)/$(DIST)/images/manager $(IMG) $(PLATFORMS) $(CURDIR)/$(DIST)/images/manager.tar
	$(SUPPLYCHAIN) ./images archive $(CURDIR)/$(DIST)/images/flag-service $(FLAG_SERVICE_IMG) $(PLATFORMS) $(CURDIR)/$(DIST)/images/flag-service.tar
	$(CONTAINER_TOOL) load --input $(DIST)/images/manager.tar
	$(CONTAINER_TOOL) load --input $(DIST)/images/flag-service.tar

.PHONY: plugins
plugins: ## Build the archives of kubectl's plugin, for all platforms, and its krew manifest in dist/release.
	@mkdir -p $(DIST)/release
	$(call cross-build,$(PLUGIN_PLATFORMS),./cmd/kubectl-flagcache)
	@$(SUPPLYCHAIN) ./plugins -programs $(CURDIR)/$(DIST)/programs -license $(CURDIR)/LICENSE -out $(CURDIR)/$(DIST)/release \
		-version '$(VERSION)' -platforms '$(subst $(space),$(comma),$(strip $(PLUGIN_PLATFORMS)))'

.PHONY: build-installer
build-installer: $(KUSTOMIZE) overlay ## Generate dist/install.yaml with all manifests.
	$(KUSTOMIZE) build $(DIST)/overlay > $(DIST)/install.yaml

.PHONY: release
release: ## Build everything that a release consists of, with the version of the manifests, into dist/release.
	hack/release/build.sh $(MANIFEST_VERSION)

.PHONY: manifest-version
manifest-version: # Prints the version that the manifests name.
	@echo $(MANIFEST_VERSION)

.PHONY: set-version
set-version: # Has the manifests name VERSION, for the next release.
	sed -i.old -E 's#(ghcr.io/flagcache/(manager|flag-service)):.*#\1:$(VERSION)#' config/manager/manager.yaml
	rm config/manager/manager.yaml.old

##@ Deployment

.PHONY: install
install: $(KUSTOMIZE) ## Install the CRD into the cluster of the current kubeconfig.
	$(KUSTOMIZE) build config/crd | $(KUBECTL) apply -f -

# Only the operator can delete FlagCaches, so it is removed after them.
.PHONY: unused
unused: # Fails while there are FlagCaches.
	@KUBECTL='$(KUBECTL)' hack/unused.sh

.PHONY: uninstall
uninstall: unused $(KUSTOMIZE) ## Remove the CRD, unless there are FlagCaches.
	$(KUSTOMIZE) build config/crd | $(KUBECTL) delete --ignore-not-found -f -

.PHONY: deploy
deploy: $(KUSTOMIZE) overlay ## Deploy the operator with the images IMG and FLAG_SERVICE_IMG.
	$(KUSTOMIZE) build $(DIST)/overlay | $(KUBECTL) apply -f -

.PHONY: undeploy
undeploy: unused $(KUSTOMIZE) ## Remove the operator and the CRD, unless there are FlagCaches.
	$(KUSTOMIZE) build config/default | $(KUBECTL) delete --ignore-not-found -f -

# The overlay is config/default with the chosen images; it is written to $(DIST) so that
# deploying changes no committed file. Kustomize requires a relative path.
CONFIG_FROM_OVERLAY := $(shell echo $(DIST)/overlay | sed 's|[^/][^/]*|..|g')/config/default
define OVERLAY
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
- $(CONFIG_FROM_OVERLAY)
patches:
- target:
    kind: Deployment
    name: flagcache-controller-manager
  patch: |
    - op: replace
      path: /spec/template/spec/containers/0/image
      value: $(IMG)
    - op: test
      path: /spec/template/spec/containers/0/env/0/name
      value: FLAG_SERVICE_IMAGE
    - op: replace
      path: /spec/template/spec/containers/0/env/0/value
      value: $(FLAG_SERVICE_IMG)
endef
export OVERLAY

.PHONY: overlay
overlay:
	@mkdir -p $(DIST)/overlay
	@printf '%s\n' "$$OVERLAY" > $(DIST)/overlay/kustomization.yaml

##@ Dependencies

.PHONY: tools
tools: $(CONTROLLER_GEN) $(KUSTOMIZE) $(CRD_REF_DOCS) $(GOLANGCI_LINT) ## Build the pinned tools into bin/.

.PHONY: controller-gen
controller-gen: $(CONTROLLER_GEN) ## Build controller-gen into bin/.

.PHONY: kustomize
kustomize: $(KUSTOMIZE) ## Build kustomize into bin/.

.PHONY: golangci-lint
golangci-lint: $(GOLANGCI_LINT) ## Build golangci-lint into bin/.

.PHONY: kwok
kwok: $(KWOK) ## Build kwok, which simulates pods in the benchmarks, into bin/.

.PHONY: ack
ack: $(ACK_1S) ## Build ACK's controller, changed to poll every second, into bin/ack-1s.

.PHONY: ack-released
ack-released: $(ACK) ## Build ACK's controller, as it is released, into bin/ack.

.PHONY: kube
kube: $(KUBE) ## Build the local Kubernetes into bin/kube (takes minutes the first time).

.PHONY: envtest
envtest: $(KUBE) ## Set up the API server and etcd of bin/kube for envtest.
	@$(KUBE) assets $(LOCALBIN)/envtest

.PHONY: redis
redis: ## Install redis-server if it is missing.
	@hack/setup/redis.sh

.PHONY: node
node: ## Install Node.js and npm if they are missing.
	@hack/setup/node.sh

# What npm has installed, for the lock file that is there.
PROVIDERS := test/providers/testdata/npm
PROVIDERS_INSTALLED := $(PROVIDERS)/node_modules/.package-lock.json

.PHONY: providers
providers: node $(PROVIDERS_INSTALLED) ## Install the npm packages of the providers that are tested.

$(PROVIDERS_INSTALLED): $(PROVIDERS)/package-lock.json | node
	npm ci --prefix $(PROVIDERS) --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: postgres
postgres: ## Install PostgreSQL if it is missing.
	@hack/setup/postgres.sh

.PHONY: prometheus
prometheus: ## Install Prometheus if it is missing.
	@hack/setup/prometheus.sh

# A tool is rebuilt when the file that pins its version changes, not before.
TOOLS_MODULE := hack/tools/go.mod hack/tools/go.sum

$(CONTROLLER_GEN): $(TOOLS_MODULE)
	$(call build-tool,hack/tools,sigs.k8s.io/controller-tools/cmd/controller-gen)

$(KUSTOMIZE): $(TOOLS_MODULE)
	$(call build-tool,hack/tools,sigs.k8s.io/kustomize/kustomize/v5)

$(CRD_REF_DOCS): $(TOOLS_MODULE)
	$(call build-tool,hack/tools,github.com/elastic/crd-ref-docs)

$(GOLANGCI_LINT): hack/tools/golangci-lint/go.mod hack/tools/golangci-lint/go.sum
	$(call build-tool,hack/tools/golangci-lint,github.com/golangci/golangci-lint/v2/cmd/golangci-lint)

SUPPLYCHAIN_MODULE := hack/tools/supplychain/go.mod hack/tools/supplychain/go.sum

$(ACTIONLINT): $(SUPPLYCHAIN_MODULE)
	$(call build-tool,hack/tools/supplychain,github.com/rhysd/actionlint/cmd/actionlint)

$(GOVULNCHECK): $(SUPPLYCHAIN_MODULE)
	$(call build-tool,hack/tools/supplychain,golang.org/x/vuln/cmd/govulncheck)

$(KWOK): hack/tools/kwok/go.mod hack/tools/kwok/go.sum
	$(call build-tool,hack/tools/kwok,sigs.k8s.io/kwok/cmd/kwok)

ACK_MODULE := hack/tools/ack/go.mod hack/tools/ack/go.sum hack/tools/ack/build.sh

$(ACK): $(ACK_MODULE)
	$(call build-ack,)

$(ACK_1S): $(ACK_MODULE)
	$(call build-ack,1)

# $(call build-ack,POLL INTERVAL IN SECONDS)
define build-ack
@echo "Building ACK's controller, once; the first time it takes a minute or two."
@mkdir -p $(@D)
hack/tools/ack/build.sh $@ $(1)
@touch $@
endef

# $(call build-tool,MODULE DIRECTORY,PACKAGE)
define build-tool
@echo "Building $(notdir $@), once; the first time it can take minutes."
@mkdir -p $(@D)
cd $(1) && go build -o $@ $(2)
@touch $@
endef

KUBE_SOURCES := $(shell find hack/kube -name '*.go' -o -name 'go.*' -o -name build.sh)
$(KUBE): $(KUBE_SOURCES)
	@mkdir -p $(@D)
	hack/kube/build.sh $@
	@touch $@
