# All that a contributor runs. `make` alone lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO          ?= go
FUZZTIME    ?= 10s
TESTTIMEOUT ?= 15m
VERSION     := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

.PHONY: build
build: ## build bin/holdfast: static, no cgo, reproducible
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o bin/holdfast ./cmd/holdfast

.PHONY: deb
deb: build ## make the Debian package, in bin/
	packaging/deb.sh bin/holdfast "$(VERSION)" bin

.PHONY: demo
demo: build ## run the main job on data made on the spot
	$(GO) run ./simulations/demo -bin bin/holdfast

.PHONY: deps
deps: ## install what tests in network namespaces need (as root, on Debian; else nothing)
	@simulations/netns/deps.sh

.PHONY: test
test: deps ## run all tests
	$(GO) test -timeout $(TESTTIMEOUT) ./...

.PHONY: race
race: deps ## run all tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race -timeout 20m ./...

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (10s)
	@for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "fuzz $$pkg $$target for $(FUZZTIME)"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

.PHONY: bench
bench: build ## measure against file-per-chunk and the machine's limits; prints ratios
	$(GO) run ./bench
	$(GO) run ./bench/backup -bin bin/holdfast
	$(GO) run ./bench/pbs
	-$(GO) run ./bench/tunnel # fails while a figure misses its mark
	-$(GO) run ./bench/cloud
	-$(GO) run ./bench/mesh -run eject
	-$(GO) run ./bench/jobs

.PHONY: soak
soak: deps ## run the long fault tests: 1,000 kills, more seeds (takes an hour or more)
	HOLDFAST_SOAK=1 $(GO) test -count=1 -timeout 0 ./...
	HOLDFAST_SEEDS=all $(GO) test -count=1 -timeout 0 -run BadTimes ./consensus ./consensus/ledger # until ctrl-C, or a seed that fails

.PHONY: lint
lint: ## gofmt, go vet, staticcheck (its version is pinned in tools/go.mod)
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

.PHONY: clean
clean: ## remove what build and demo left
	rm -rf bin demo-output

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
