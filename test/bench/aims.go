//go:build real

package bench

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// aim is a figure of this registry beside another one. It's met if the ratio is
// at least, or for what should be small at most, the one wanted.
type aim struct {
	text         string
	figure       func(*report) (ours, other float64, ok bool)
	want         float64
	smallerIsFit bool
}

// aims are what the project wants to be. The names of peers are those that
// whoever runs the benchmark gives them in $PEERS.
func aims(sz size) []aim {
	most, hundred, listed := sz.most(), sz.tags[1], sz.shared
	return []aim{
		{"small push, all synced: olareg", rates("push small", synced, "push small", "olareg"), 1, false},
		{"small push, unsynced: olareg", rates("push small", unsynced, "push small", "olareg"), 1.3, false},
		{"large push: the slower of sha256 and dd", ofSlower("push large", synced, hashing, writing), 0.85, false},
		{"server CPU of a large pull: olareg", cpus("pull large", synced, "pull large", "olareg"), 1, true},
		{"HEAD manifest: Caddy's respond", rates("HEAD manifest", synced, "HEAD manifest", responding), 0.85, false},
		{"HEAD of anybody: with a password", rates(headAnonymous, withUsers, headPassword, withUsers), 1.15, true},
		{"HEAD of anybody: with a token", rates(headAnonymous, withUsers, headToken, withUsers), 1.15, true},
		{"small pull: olareg", rates("pull small", synced, "pull small", "olareg"), 1, false},
		{"HEAD manifest with most tags: with one", rates(atSize("HEAD manifest", most), synced, atSize("HEAD manifest", most), single), 0.9, false},
		{"GET manifest with most tags: with one", rates(atSize("GET manifest", most), synced, atSize("GET manifest", most), single), 0.9, false},
		{"cost of a tag with most tags: with 100", rates(atSize("push tag", hundred), synced, atSize("push tag", most), synced), 1.3, true},
		{"page of tags: olareg", rates(atSize("list tags", listed), synced, atSize("list tags", listed), "olareg"), 10, false},
		{"200 of all referrers: 200 of olareg", rates(fmt.Sprintf("%d referrers n=200", sz.refs), synced, "200 referrers", "olareg"), 1, false},
		{"page of the catalog: zot", rates(fmt.Sprintf("catalog of %d", sz.repos), synced, fmt.Sprintf("catalog of %d", sz.repos), "zot"), 10, false},
		{"p99 of small pushes beside jobs: idle", lates("push small beside jobs", "push small"), 2, true},
		{"p99 of small pulls beside jobs: idle", lates("pull small beside jobs", "pull small"), 2, true},
		{"idle memory, MB: Caddy alone + 10", facts(idleOurs, idleAlone, 10), 1, true},
		{"heap after all cycles, MB: after a tenth + 1", facts(heapLate, heapEarly, 1), 1, true},
		{"peak memory, MB: 256 MiB", facts(peakLoad, "", 268), 1, true},
		{"start to first answer: one second", facts(firstReply, "", 1), 1, true},
	}
}

func rates(workload, system, otherWorkload, other string) func(*report) (float64, float64, bool) {
	return func(r *report) (float64, float64, bool) {
		a, ok := r.rate(workload, system)
		b, okOther := r.rate(otherWorkload, other)
		return a, b, ok && okOther
	}
}

// ofSlower is the rate of a system beside that of the slower of two others.
func ofSlower(workload, system, other, another string) func(*report) (float64, float64, bool) {
	return func(r *report) (float64, float64, bool) {
		a, ok := r.rate(workload, system)
		b, okOther := r.rate(workload, other)
		c, okAnother := r.rate(workload, another)
		return a, min(b, c), ok && okOther && okAnother
	}
}

func cpus(workload, system, otherWorkload, other string) func(*report) (float64, float64, bool) {
	return func(r *report) (float64, float64, bool) {
		a, ok := r.cpu(workload, system)
		b, okOther := r.cpu(otherWorkload, other)
		return a.Seconds() * 1e3, b.Seconds() * 1e3, ok && okOther
	}
}

func lates(workload, otherWorkload string) func(*report) (float64, float64, bool) {
	return func(r *report) (float64, float64, bool) {
		a, ok := r.late(workload, synced)
		b, okOther := r.late(otherWorkload, synced)
		return a.Seconds() * 1e3, b.Seconds() * 1e3, ok && okOther
	}
}

func facts(fact, other string, more float64) func(*report) (float64, float64, bool) {
	return func(r *report) (float64, float64, bool) {
		value, ok := r.facts[fact]
		return value, r.facts[other] + more, ok
	}
}

// conclude says which aims were met.
func (r *report) conclude(t *testing.T, sz size) {
	t.Helper()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, a := range aims(sz) {
		ours, other, ok := a.figure(r)
		if !ok {
			_, _ = fmt.Fprintf(w, "%s\t\t\t\tnot measured: give it in PEERS\n", a.text)
			continue
		}
		met, sign := ours/other >= a.want, "≥"
		if a.smallerIsFit {
			met, sign = ours/other <= a.want, "≤"
		}
		verdict := "met"
		if !met {
			verdict = "MISSED"
		}
		_, _ = fmt.Fprintf(w, "%s\t%.4g\t: %.4g\t= %.3g\twant %s %g\t%s\n", a.text, ours, other, ours/other, sign, a.want, verdict)
	}
	_ = w.Flush() // into memory
	var facts []string
	for name, value := range r.facts {
		facts = append(facts, fmt.Sprintf("%s: %.3g", name, value))
	}
	slices.Sort(facts)
	t.Logf("\n%s\n%s", b.String(), strings.Join(facts, "\n"))
}
