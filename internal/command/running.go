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

// job is a kind of background work, and how what it finds is shown.
type job[T any] struct {
	name    string
	row     func(found T, dry bool) []string
	nothing string // what is printed if a round has counted nothing
}

// round has a round of the job done, and prints what it has found, a row for each thing,
// and what it has counted.
func (j job[T]) round(ctx context.Context, r *running, dry bool, out io.Writer) error {
	last, err := r.Round(ctx, j.name, dry)
	if err != nil {
		return err
	}
	found, err := adminapi.FindingsOf[T](&r.Client, j.name)
	if err != nil {
		return err
	}
	rows := make([][]string, len(found.Findings))
	for i, f := range found.Findings {
		rows[i] = j.row(f, dry)
	}
	if err := printTable(out, rows); err != nil {
		return err
	}
	if found.More > 0 {
		if _, err := fmt.Fprintf(out, "and %d more\n", found.More); err != nil {
			return err
		}
	}
	if err := tellCounts(out, last, j.nothing); err != nil {
		return err
	}
	if last.Error != "" {
		return errors.New(last.Error)
	}
	return nil
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
