# Each target is a command that works by hand as well. `make` checks a change,
# `make test` runs everything there is, with the real clients.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c

TAGS     := real,conformance
FUZZTIME ?= 30s
SOAK     ?= ./...
CADDYS   := internal/clientaddr/ internal/option/ internal/providers/
PURE     := $(patsubst %/,./%/...,$(wildcard oci/ storage/ authz/ handler/ sync/ tasks/ search/) \
            $(filter-out internal/command/ $(CADDYS),$(wildcard internal/*/))) ./internal/command
TOOLS    := $(patsubst test/tools/%/go.mod,bin/%,$(wildcard test/tools/*/go.mod))
CLIENTS  := $(filter-out bin/golangci-lint bin/benchstat,$(TOOLS))

.PHONY: check format vet lint quick test soak conformance fuzz bench microbench run fmt setup tools clients

check: format vet lint quick

format: bin/golangci-lint
	bin/golangci-lint fmt --diff

vet:
	go vet ./...
	go vet -tags $(TAGS) ./...

lint: bin/golangci-lint
	bin/golangci-lint config verify
	bin/golangci-lint run

# The race detector watches what needs no Caddy; with Caddy it takes minutes to build.
quick:
	go test -short -timeout 10m . $(patsubst %,./%...,$(CADDYS)) ./internal/command/serve
	go test -short -race -timeout 10m $(PURE)

test: setup clients
	go test -tags real -count=1 -timeout 30m ./...

# The same at its full size, or `make soak SOAK=./storage/filesystem` one package: the
# longest take half an hour with two at a time on two cores, and go's own limit is less.
soak: setup clients
	OCI_SOAK=1 go test -tags real -count=1 -timeout 170m $(SOAK)

# The distribution-spec's conformance program is built by hand, outside this repository.
conformance:
	@[[ -x "$(CONFORMANCE)" ]] || { echo "CONFORMANCE must name the distribution-spec's conformance program: make conformance CONFORMANCE=/path/to/conformance.test" >&2; exit 1; }
	CONFORMANCE="$$(realpath "$(CONFORMANCE)")" go test -tags $(TAGS) -count=1 -timeout 30m -v ./test/conformance

# Every Fuzz function of the module, one after the other, each for FUZZTIME.
fuzz:
	@go test -list '^Fuzz' ./... \
	| awk '/^Fuzz/ { name[n++] = $$1 } $$1 == "ok" { while (n) print $$2, name[--n] }' \
	| while read -r pkg name; do (set -x; go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$pkg" </dev/null) || exit 1; done

# Beside Debian's docker-registry and whatever runs already:
# make bench PEERS='olareg=http://127.0.0.1:5001 zot=http://127.0.0.1:5002'
# One that has users is in PEER_USERS as well: PEER_USERS='zot=alice:secret'.
bench: setup
	OCI_BENCH=full go test -tags real -run TestBench -count=1 -timeout 60m -v ./test/bench

# Whether a change of the hot path is faster, or noise: once with the change put
# aside, `make microbench BEFORE=1`, and once with it.
microbench: bin/benchstat
	go test -run '^$$' -bench 'Parse|Head|Get|Descriptor' -count 10 ./handler | tee bin/$(if $(BEFORE),before,after).txt
	go test -run '^$$' -bench 'Store/./tags=1000' -count 10 ./storage/filesystem | tee -a bin/$(if $(BEFORE),before,after).txt
	$(if $(BEFORE),,bin/benchstat bin/before.txt bin/after.txt)

run:
	go run ./xcaddy oci-registry serve

fmt: bin/golangci-lint
	bin/golangci-lint fmt

# Debian's clients (docker, podman, buildah, skopeo); installs only what is missing.
setup:
	test/setup

tools: $(TOOLS)

clients: $(CLIENTS)

# A tool is a module of its own, so its go.sum says exactly what it is built from.
bin/%: test/tools/%/go.mod test/tools/%/go.sum
	CGO_ENABLED=0 go -C test/tools/$* build -trimpath -buildvcs=false -ldflags='-s -w' -o "$(CURDIR)/bin/" tool
	@touch $@
