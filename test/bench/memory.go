//go:build real

package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/test/tool"
)

// Figures that aren't rates.
const (
	idleAlone  = "idle memory of Caddy alone, MB"
	idleOurs   = "idle memory with a registry, MB"
	heapEarly  = "heap after a tenth of the cycles, MB"
	heapLate   = "heap after all cycles, MB"
	peakLoad   = "peak memory of these cycles, MB"
	firstReply = "start to first answer, s"
)

// idleMemory is what a server that was just asked something has in memory.
func idleMemory(t *testing.T, s *system) float64 {
	t.Helper()
	c := &client{conn: conn{addr: s.addr, host: s.addr}, sys: s}
	defer c.close()
	if _, err := c.want(http.StatusOK, http.MethodGet, "/v2/", "", nil); err != nil {
		t.Fatal(err)
	}
	collect(t, s)
	now, _, err := tool.Memory(s.pid)
	if err != nil {
		t.Fatal(err)
	}
	return float64(now) / 1e6
}

// cycles pushes and pulls images and looks at the memory meanwhile.
func cycles(t *testing.T, r *report, s *system, n int, rest time.Duration) {
	t.Helper()
	if err := resetPeak(s.pid); err != nil {
		t.Fatal(err)
	}
	pushAndPull(t, s, n/10)
	time.Sleep(rest)
	r.facts[heapEarly] = collect(t, s)
	pushAndPull(t, s, n-n/10)
	time.Sleep(rest)
	r.facts[heapLate] = collect(t, s)
	_, peak, err := tool.Memory(s.pid)
	if err != nil {
		t.Fatal(err)
	}
	r.facts[peakLoad] = float64(peak) / 1e6
}

// pushAndPull pushes n images, eight at a time and to eight repositories, pulls
// each, and deletes it: what stays in memory then isn't the images' names.
func pushAndPull(t *testing.T, s *system, n int) {
	t.Helper()
	var wg sync.WaitGroup
	const clients = 8
	errs := make([]error, clients)
	for i := range clients {
		wg.Go(func() {
			c := &client{conn: conn{addr: s.addr, host: s.addr}, sys: s}
			defer c.close()
			for done := i; done < n && errs[i] == nil; done += clients {
				errs[i] = c.cycle(fmt.Sprintf("bench/cycle-%d", i), fmt.Sprintf("v%d", done%100))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func (c *client) cycle(repo, tag string) error {
	p := newPicture(c.sys.next(), smallLayer)
	if err := c.push(repo, tag, p); err != nil {
		return err
	}
	if _, err := c.pull(repo, tag, p); err != nil {
		return err
	}
	_, err := c.want(http.StatusAccepted, http.MethodDelete, "/v2/"+repo+"/manifests/"+p.manifest.digest.String(), "", nil)
	for i := 0; i < len(p.blobs) && err == nil; i++ {
		_, err = c.want(http.StatusAccepted, http.MethodDelete, "/v2/"+repo+"/blobs/"+p.blobs[i].digest.String(), "", nil)
	}
	return err
}

// collect has the server collect its garbage, and returns how much is left, in MB.
func collect(t *testing.T, s *system) float64 {
	t.Helper()
	for range 2 { // what has a finalizer goes with the second
		get(t, s.admin+"/debug/pprof/heap?gc=1", nil)
	}
	var vars struct {
		Memstats struct{ HeapAlloc uint64 } `json:"memstats"`
	}
	get(t, s.admin+"/debug/vars", &vars)
	return float64(vars.Memstats.HeapAlloc) / 1e6
}

func get(t *testing.T, url string, into any) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s", url, resp.Status)
	}
	if into != nil {
		if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
			t.Fatalf("GET %s: %v", url, err)
		}
	}
}

// restarted measures how long a start takes until the first answer.
func restarted(r *report, s *system) {
	s.stop()
	began := time.Now()
	s.restart()
	r.facts[firstReply] = time.Since(began).Seconds()
}
