//go:build real

// Package bench measures the real program over HTTP beside others, in one run
// and in turn, and prints how they compare:
//
//	make bench PEERS='olareg=http://127.0.0.1:5001 zot=http://127.0.0.1:5002'
//
// A peer that has users is in PEER_USERS as well, as in 'zot=alice:secret', and takes part
// where it's about them. Debian's docker-registry is always one of them. What it prints is for people:
// no figure makes it fail, only a wrong answer does. OCI_BENCH is full or half;
// without it there's a little of everything, to show that it works. WORKLOADS and
// SYSTEMS are regular expressions for the names of those to take part, and ROUNDS
// is how often each has its turn.
package bench

import (
	"os"
	"slices"
	"strconv"
	"testing"
)

func TestBench(t *testing.T) {
	sz, ok := map[string]size{"": smallRun, "half": halfRun, "full": fullRun}[os.Getenv("OCI_BENCH")]
	if !ok {
		t.Fatalf("OCI_BENCH is %q, want half or full, or nothing for a little of everything", os.Getenv("OCI_BENCH"))
	}
	if n, err := strconv.Atoi(os.Getenv("ROUNDS")); err == nil {
		sz.rounds = n
	}
	r := newReport()
	alone := plain(t)
	caddy := ours(t, synced, place(t), "on")
	r.facts[idleAlone], r.facts[idleOurs] = idleMemory(t, alone), idleMemory(t, caddy)
	alone.stop()
	systems := []*system{caddy, ours(t, unsynced, place(t), "off"), debian(t)}
	guarded := guarded(t)
	for _, p := range peers(t) {
		if p.user == "" {
			systems = append(systems, p)
		} else {
			guarded = append(guarded, p)
		}
	}

	run := func(w workload) { measure(t, r, w, sz, systems) }
	run(pushSmall())
	run(pullSmall())
	measure(t, r, headManifest(), sz, slices.Insert(slices.Clone(systems), 1, caddy.beside()))
	for _, w := range headAs() {
		measure(t, r, w, sz, append(guarded, systems[2]))
	}
	r.users()
	run(getManifest())
	run(headBlob())
	large := pushLarge(sz.large)
	large.beside = hardware(t, r, large.name, sz.large)
	run(large)
	run(pullLarge(sz.large))
	run(mixed(max(sz.repos/50, 4)))
	growing(t, r, sz, systems)
	run(referrers(min(sz.refs, 200), ""))
	run(referrers(sz.refs, "?n=200"))
	run(referrers(sz.refs, ""))
	run(catalog(sz.repos))
	restarted(r, caddy)
	if wanted("memory") {
		cycles(t, r, caddy, sz.cycles, sz.rest)
	}
	run(besideJobs(pushSmall())) // last: a round of a job goes on for as long as it takes
	run(besideJobs(pullSmall()))
	r.conclude(t, sz)
}

// growing measures at each number of tags. How the manifests of a large repository
// compare with those of a small one is measured in turn too, and the small one has a
// process of its own: what the large one's names cost that, the small one doesn't pay.
func growing(t *testing.T, r *report, sz size, systems []*system) {
	t.Helper()
	small := ours(t, single, place(t), "on")
	defer small.stop()
	systems = append(slices.Clone(systems), small)
	repos := make(map[*system]*grown)
	for _, tags := range sz.tags {
		for _, w := range atTags(tags, sz, repos) {
			measure(t, r, w, sz, systems)
		}
	}
}
