# make help lists the targets.
GO       ?= go
BIN      ?= larder
E2E_TIME ?= 20m

.PHONY: help build test unit lint e2e bench live conformance matrix docs fuzz soak cover clean

help: ## list the targets
	@sed -n 's/^\([a-z][a-z0-9]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 10

build: ## build ./larder, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) ./cmd/larder

test: lint unit e2e ## everything CI runs: format, vet, staticcheck, tests with -race, end to end

lint: ## gofumpt, go vet, staticcheck
	@out=$$($(GO) tool gofumpt -l .); if [ -n "$$out" ]; then echo "not formatted (run: go tool gofumpt -w .):"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

unit: ## unit tests of every package, with the race detector
	$(GO) test -race $$($(GO) list ./... | grep -v '/tests')

e2e: ## real clients through the built program, on loopback
	$(GO) test -count=1 -timeout $(E2E_TIME) ./tests/...

BENCH ?=
bench: build ## what larder costs beside a bare Go server; BENCH='-huge 8GiB -million 1000000' for all of it
	$(GO) run ./tests/bench -larder ./$(BIN) $(BENCH)

conformance: build ## the public HTTP caching tests, both as http proxy and through CONNECT; needs node and npm
	$(GO) run ./tests/conformance -larder ./$(BIN) -docs docs/conformance.md

live: ## the same clients against the real registries this machine reaches
	LARDER_LIVE=1 $(GO) test -count=1 -v -timeout $(E2E_TIME) -run '^TestLive' ./tests/...

matrix: ## try every client that is installed here, and write the table in docs/clients.md
	LARDER_MATRIX=$(CURDIR)/docs/clients.md $(GO) test -count=1 -timeout $(E2E_TIME) -run '^TestMatrix$$' ./tests

docs: build ## write what docs/ takes from the program
	@{ sed '/^```yaml$$/q' docs/configuration.md; ./$(BIN) config print; sed -n '/^```yaml$$/,$$p' docs/configuration.md | sed -n '/^```$$/,$$p'; } > docs/configuration.md.new
	@mv docs/configuration.md.new docs/configuration.md
	@{ sed '/^<!-- larder policy presets/q' docs/ecosystems.md; ./$(BIN) policy presets --markdown; sed -n '/^<!-- end -->/,$$p' docs/ecosystems.md; } > docs/ecosystems.md.new
	@mv docs/ecosystems.md.new docs/ecosystems.md

FUZZTIME ?= 20s
fuzz: ## run every fuzz target for FUZZTIME each
	@set -e; for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p; done; done

soak: ## the store's long tests: ten times the cap of churn, more crashes, full disks, longer scans
	LARDER_LONG=1 $(GO) test -count=1 -v -timeout 30m ./cache/store

cover: ## coverage of the unit tests, in out/cover.html
	@mkdir -p out
	$(GO) test -coverprofile out/cover.out $$($(GO) list ./... | grep -v '/tests')
	$(GO) tool cover -html out/cover.out -o out/cover.html

clean: ## remove what build and the tests leave behind
	rm -rf $(BIN) out
