package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/caddy-oci/oci-registry/internal/adminapi"
	"github.com/caddy-oci/oci-registry/tasks"
)

// running is a registry that a command asks Caddy's admin endpoint about.
type running struct {
	adminapi.Client

	address string // of the endpoint; default: Caddy's
}

// newRunning returns a registry that flags are to name.
func newRunning(c Caddy) *running {
	r := new(running)
	r.Do = func(method, path string) (*http.Response, error) { return c.Ask(r.address, method, path) }
	return r
}

// flags are those of every command that asks about a registry.
func (r *running) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&r.Registry, "name", "", "", "The registry's name (default: the only one there is)")
	cmd.Flags().StringVarP(&r.address, "address", "", "", "The address of Caddy's admin endpoint (default: Caddy's)")
}

// jobFlags are those of a command that has a round of a job done.
func (r *running) jobFlags(cmd *cobra.Command) {
	r.flags(cmd)
	cmd.Flags().StringVarP(&r.Prefix, "path", "", "", "The path whose store is meant, of a registry that has several (default: that of all that's under none)")
}

// round has a round of a job done, and tells what it came to.
func (r *running) round(ctx context.Context, job string, dry bool, tell func(*tasks.Report) error) error {
	last, err := r.Round(ctx, job, dry)
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
