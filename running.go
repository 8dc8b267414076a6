package ociregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/caddy-oci/oci-registry/tasks"
)

// jobClient asks a running Caddy for background work.
type jobClient struct {
	admin    string
	registry string
	job      string
	path     string
}

func (j *jobClient) flags(cmd *cobra.Command) {
	j.registryFlags(cmd)
	cmd.Flags().StringVarP(&j.path, "path", "", "", "The path whose store is meant, of a registry that has several (default: that of all that's under none)")
}

func (j *jobClient) registryFlags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&j.registry, "name", "", "", "The registry's name (default: the only one there is)")
	cmd.Flags().StringVarP(&j.admin, "address", "", "", "The address of Caddy's admin endpoint (default: Caddy's)")
}

// round begins a round of the job and tells what it came to.
func (j *jobClient) round(ctx context.Context, dry bool, tell func(*tasks.Report) error) error {
	if err := j.findRegistry(); err != nil {
		return err
	}
	query := ""
	if dry {
		query = "?dry_run"
	}
	var round tasks.Report
	if err := j.ask(http.MethodPost, "/jobs/"+j.job+query, &round); err != nil {
		return err
	}
	last, err := j.wait(ctx, round.ID)
	if err != nil {
		return err
	}
	if err := tell(last); err != nil {
		return err
	}
	if last.Error != "" {
		return errors.New(last.Error)
	}
	return nil
}

// findRegistry fills in the name of the only registry.
func (j *jobClient) findRegistry() error {
	if j.registry != "" {
		return nil
	}
	var all []status
	if err := j.get(http.MethodGet, adminPath, &all); err != nil {
		return err
	}
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.Name
	}
	if len(names) != 1 {
		return fmt.Errorf("there are %d registries (%s): say which one with --name", len(names), strings.Join(names, ", "))
	}
	j.registry = names[0]
	return nil
}

// lookEvery is how often wait looks if a round has ended.
const lookEvery = 200 * time.Millisecond

// wait returns what came of a round, once it has ended.
func (j *jobClient) wait(ctx context.Context, id string) (*tasks.Report, error) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		var s tasks.Status
		if err := j.ask(http.MethodGet, "/jobs/"+j.job, &s); err != nil {
			return nil, err
		}
		if s.Last != nil && s.Last.ID == id {
			return s.Last, nil
		}
		if s.Current == nil || s.Current.ID != id {
			return nil, errors.New("the round was followed by another one; the log says what came of it")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.New("not waiting any more; the round goes on")
		}
	}
}

// findingsOf asks what the last round has found.
func findingsOf[T any](j *jobClient) (found roundFindings[T], err error) {
	err = j.ask(http.MethodGet, "/jobs/"+j.job+"/findings", &found)
	return found, err
}

// tellRest prints what isn't in the table of findings.
func tellRest(out io.Writer, more int, last *tasks.Report, nothing string) error {
	if more > 0 {
		if _, err := fmt.Fprintf(out, "and %d more\n", more); err != nil {
			return err
		}
	}
	return tellCounts(out, last, nothing)
}

// tellCounts prints what a round has counted, a line each.
func tellCounts(out io.Writer, last *tasks.Report, nothing string) error {
	if len(last.Counts) == 0 {
		_, err := fmt.Fprintln(out, nothing)
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(last.Counts)) {
		value := humanize.Comma(last.Counts[name])
		if what, bytes := strings.CutSuffix(name, "_bytes"); bytes {
			name, value = what, humanize.IBytes(uint64(max(0, last.Counts[name])))
		}
		if _, err := fmt.Fprintf(out, "%s: %s\n", strings.ReplaceAll(name, "_", " "), value); err != nil {
			return err
		}
	}
	return nil
}

// ask asks about the registry.
func (j *jobClient) ask(method, path string, to any) error {
	if j.path != "" {
		sep := "?"
		if strings.Contains(path, sep) {
			sep = "&"
		}
		path += sep + "path=" + url.QueryEscape(j.path)
	}
	return j.get(method, adminPath+"/"+j.registry+path, to)
}

// post has something done that is answered with nothing.
func (j *jobClient) post(path string) error {
	resp, err := j.request(http.MethodPost, adminPath+"/"+j.registry+path)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// get asks the admin endpoint.
func (j *jobClient) get(method, path string, to any) error {
	resp, err := j.request(method, path)
	if err != nil {
		return err
	}
	err = json.NewDecoder(resp.Body).Decode(to)
	return errors.Join(err, resp.Body.Close())
}

func (j *jobClient) request(method, path string) (*http.Response, error) {
	address, err := caddycmd.DetermineAdminAPIAddress(j.admin, nil, "", "")
	if err != nil {
		return nil, err
	}
	resp, err := caddycmd.AdminAPIRequest(address, method, path, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("ask Caddy's admin endpoint at %s: %w", address, err)
	}
	return resp, nil
}
