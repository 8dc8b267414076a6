//go:build real

package bench

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A workload is one thing that clients do with a registry.
type workload struct {
	name    string
	unit    string // what is counted: images, requests, …; "MB" counts bytes
	clients int    // that do it at once
	on      func(*system) bool
	jobs    []string // of which a round runs all the time meanwhile

	// prepare puts in place what op needs. It isn't measured. It fails with
	// errNotOffered if the system can't do this. Default: nothing.
	prepare func(*client) error

	// op does it once and returns how many bytes of content were moved.
	op func(*client) (bytes int, err error)

	// undo takes back what op has done, so that doing it again is as much work. It isn't
	// measured, and is for workloads of one client. Default: nothing.
	undo func(*client) error

	// beside measures something else, once in each round. Default: nothing.
	beside func()
}

var errNotOffered = errors.New("not offered")

// offers fails with errNotOffered if a path isn't found.
func (c *client) offers(path string) error {
	rep, err := c.do(http.MethodGet, path, "", nil, nil)
	if err == nil && rep.status == http.StatusNotFound {
		err = errNotOffered
	}
	return err
}

// client is one of a workload's clients.
type client struct {
	conn

	sys    *system
	n      int // which of the workload's clients
	rounds int // how many operations it has done
	state  any // what prepare has left for op
}

// stateOf is the client's state, zero if it has none of that type.
func stateOf[T any](c *client) T {
	state, _ := c.state.(T)
	return state
}

// serial numbers what must differ.
type serial struct{ atomic.Int64 }

// newSerial begins where no earlier run did: what a peer has of one it wouldn't
// be pushed again.
func newSerial() *serial {
	s := new(serial)
	s.Store(time.Now().UnixMicro())
	return s
}

// A sample is what one round of a workload did on one system.
type sample struct {
	ops, bytes int
	elapsed    time.Duration
	cpu        time.Duration // of the server
	mallocs    uint64        // in the server; 0 if it doesn't tell
	late       time.Duration // what one operation in a hundred took, or longer
}

// rate is operations, or for the unit MB megabytes, in a second.
func (s sample) rate(unit string) float64 {
	n := float64(s.ops)
	if unit == "MB" {
		n = float64(s.bytes) / 1e6
	}
	return n / s.elapsed.Seconds()
}

func (s sample) cpuPerOp() time.Duration  { return s.cpu / time.Duration(s.ops) }
func (s sample) mallocsPerOp() float64    { return float64(s.mallocs) / float64(s.ops) }
func (w *workload) runsOn(s *system) bool { return w.on == nil || w.on(s) }
func only(names ...string) func(*system) bool {
	return func(s *system) bool { return slices.Contains(names, s.name) }
}

// size says how much a run does.
type size struct {
	rounds int
	round  time.Duration // how long a round goes on before it begins nothing more
	large  int           // of a large blob, in bytes
	tags   []int         // numbers of tags at which a repository of ours is measured
	shared int           // the one of them at which those of others are, too
	repos  int
	refs   int
	cycles int           // pushes and pulls before memory is looked at again
	rest   time.Duration // before that: when manifests were pulled is kept for a minute
}

var (
	smallRun = size{1, 100 * time.Millisecond, 8 << 20, []int{1, 300}, 300, 40, 60, 60, 0}
	halfRun  = size{3, time.Second, 64 << 20, []int{1, 100, 2000, 20_000}, 2000, 1000, 2000, 2000, 65 * time.Second}
	fullRun  = size{3, 1500 * time.Millisecond, 256 << 20, []int{1, 100, 2000, 100_000}, 2000, 5000, 10_000, 10_000, 65 * time.Second}
)

// most is the largest number of tags.
func (sz size) most() int { return slices.Max(sz.tags) }

// measure runs a workload on each of the systems in turn, round after round, so
// that whatever else the machine does meanwhile is shared among them.
func measure(t *testing.T, r *report, w workload, sz size, systems []*system) {
	t.Helper()
	if !wanted(w.name) {
		return
	}
	teams := w.teams(t, systems)
	for range sz.rounds {
		for _, s := range systems {
			if teams[s] == nil {
				continue
			}
			one, err := w.round(teams[s], sz.round)
			if err != nil {
				t.Errorf("%s on %s: %v", w.name, s.name, err)
				teams[s] = nil
				continue
			}
			r.add(w.name, w.unit, s.name, one)
		}
		if w.beside != nil {
			w.beside()
		}
	}
	for _, team := range teams {
		for _, c := range team {
			c.close()
		}
	}
	r.print(t, w.name)
}

// teams makes the clients of each system that takes part.
func (w *workload) teams(t *testing.T, systems []*system) map[*system][]*client {
	t.Helper()
	teams := make(map[*system][]*client)
	for _, s := range systems {
		if !w.runsOn(s) || !chosen("SYSTEMS", s.name) {
			continue
		}
		team, err := w.team(s)
		switch {
		case errors.Is(err, errNotOffered):
			t.Logf("%s: %s doesn't offer it", w.name, s.name)
		case err != nil:
			t.Errorf("%s on %s: prepare: %v", w.name, s.name, err)
		default:
			teams[s] = team
		}
	}
	return teams
}

func wanted(workload string) bool { return chosen("WORKLOADS", workload) }

// chosen reports whether the regular expression in an environment variable
// matches a name; without one every name is chosen.
func chosen(variable, name string) bool {
	only := os.Getenv(variable)
	return only == "" || regexp.MustCompile(only).MatchString(name)
}

// team makes the clients of a workload. What the first prepares is for all.
func (w *workload) team(s *system) ([]*client, error) {
	team := make([]*client, cmp.Or(w.clients, 1))
	for i := range team {
		team[i] = &client{conn: conn{addr: s.addr, host: s.addr}, sys: s, n: i}
	}
	if w.prepare != nil {
		if err := w.prepare(team[0]); err != nil {
			return nil, err
		}
	}
	for _, c := range team[1:] {
		c.state, c.host, c.auth = team[0].state, team[0].host, team[0].auth
	}
	return team, nil
}

func (w *workload) round(team []*client, length time.Duration) (sample, error) {
	s := team[0].sys
	before, err := s.used()
	if err != nil {
		return sample{}, err
	}
	stop := s.begin(w.jobs)
	began := time.Now()
	var bytes atomic.Int64
	var wg sync.WaitGroup
	var aside pause
	errs, took := make([]error, len(team)), make([][]time.Duration, len(team))
	for i, c := range team {
		wg.Go(func() {
			for first := true; (first || time.Since(began) < length) && errs[i] == nil; first = false {
				start := time.Now()
				n, failed := w.op(c)
				if failed != nil {
					errs[i] = failed
					return
				}
				c.rounds++
				took[i] = append(took[i], time.Since(start))
				bytes.Add(int64(n))
				if w.undo != nil && errs[i] == nil {
					errs[i] = aside.during(s, func() error { return w.undo(c) })
				}
			}
		})
	}
	wg.Wait()
	all := slices.Sorted(slices.Values(slices.Concat(took...)))
	one := sample{ops: len(all), bytes: int(bytes.Load()), elapsed: time.Since(began)}
	if len(all) > 0 {
		one.late = all[len(all)*99/100]
	}
	errs = append(errs, stop())
	after, err := s.used()
	one.elapsed -= aside.elapsed
	one.cpu, one.mallocs = after.cpu-before.cpu-aside.cpu, after.mallocs-before.mallocs-aside.mallocs
	return one, errors.Join(append(errs, err)...)
}

// pause is what was done during a round that isn't measured.
type pause struct {
	elapsed time.Duration
	usage
}

func (p *pause) during(s *system, fn func() error) error {
	began := time.Now()
	before, err := s.used()
	err = errors.Join(err, fn())
	after, failed := s.used()
	p.cpu += after.cpu - before.cpu
	p.mallocs += after.mallocs - before.mallocs
	p.elapsed += time.Since(began)
	return errors.Join(err, failed)
}

// usage is what a server has used since it was started.
type usage struct {
	cpu     time.Duration
	mallocs uint64
}

func (s *system) used() (u usage, err error) {
	if s.admin != "" {
		if u.mallocs, err = mallocs(s.admin); err != nil {
			return u, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	u.cpu, err = cpuTime(s.pid)
	return u, err
}
