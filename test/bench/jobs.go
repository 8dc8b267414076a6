//go:build real

package bench

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// besideJobs is a workload while rounds of background work run without a pause, one
// after the other. It's this registry's only.
func besideJobs(w workload) workload {
	w.name += " beside jobs"
	w.on = only(synced)
	w.jobs = []string{"gc", "scrub"}
	return w
}

// begin has rounds of jobs run until stop is called, which fails if one couldn't begin.
func (s *system) begin(jobs []string) (stop func() error) {
	stopped := make(chan struct{})
	var wg sync.WaitGroup
	errs := make([]error, len(jobs))
	for i, job := range jobs {
		wg.Go(func() { errs[i] = s.keepBusy(job, stopped) })
	}
	return func() error {
		close(stopped)
		wg.Wait()
		return errors.Join(errs...)
	}
}

// keepBusy asks for a round as soon as there's none. One may run for longer than
// what's measured: then it's the one from before.
func (s *system) keepBusy(job string, stopped <-chan struct{}) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		resp, err := http.Post(s.admin+"/oci_registry/registries/inline/jobs/"+job, "", nil)
		if err != nil {
			return err
		}
		said, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusAccepted && resp.StatusCode != http.StatusConflict { // it runs
			return fmt.Errorf("a round of %s: %s %s", job, resp.Status, said)
		}
		select {
		case <-stopped:
			return nil
		case <-again.C:
		}
	}
}
