package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/spf13/cobra"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/archive"
	"github.com/caddy-oci/oci-registry/tasks/scrub"
)

// checkOptions are what 'caddy oci-registry check' is told.
type checkOptions struct {
	storeFlags

	store string
}

func newCheck(c Caddy) *cobra.Command {
	o := checkOptions{storeFlags: storeFlags{caddy: c}}
	cmd := &cobra.Command{
		Use:   "check --store <store> [REPOSITORY…]",
		Short: "Reads all that a store holds, and lists what is wrong",
		Long: `Reads all that a store holds, or the repositories named and what's below them,
compares it with its digests, and lists what is damaged, missing or unreadable,
with the tags that lead there. It changes nothing, asks no running registry and
reads as fast as it can: for backups, and after a copy. The exit code is 1 if
something is wrong. Of a running registry, scrub repairs what it can.

` + storeHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			ctx, stop := untilInterrupted(cmd.Context())
			defer stop()
			return o.run(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr(), args)
		},
	}
	cmd.Flags().StringVarP(&o.store, "store", "s", "", "The store")
	o.add(cmd)
	requireFlags(cmd, "store")
	return cmd
}

func (o *checkOptions) run(ctx context.Context, stdout, out io.Writer, repositories []string) (err error) {
	only, err := below(repositories)
	if err != nil {
		return err
	}
	opened, err := o.read(ctx, out, o.store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	s := readable{opened, only}
	names, err := archive.All(ctx, s)
	if err != nil {
		return err
	}
	found, err := check(ctx, s, len(names), out)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return nil
	}
	return errors.Join(tabulate(stdout, found), fmt.Errorf("wrong things: %d", len(found)))
}

// check reads a store of so many repositories, and returns what is wrong.
func check(ctx context.Context, s storage.Store, repositories int, out io.Writer) (found []scrub.Finding, err error) {
	d := newDisplay(out, "checked")
	d.progress.Repositories.Store(int64(repositories))
	err = scrub.Scrub(ctx, s, scrub.Place{}, func(p scrub.Place) {
		if p.Digest == "" && !p.Repository.IsZero() {
			d.progress.Finished.Add(1)
		}
	}, scrub.Options{
		DryRun: true,
		Checked: func(bytes int64) {
			d.progress.Copied.Add(1)
			d.progress.Bytes.Add(bytes)
		},
		Found: func(f scrub.Finding) { found = append(found, f) },
	})
	d.stop()
	d.print(fmt.Sprintf("%s: %d of %d repositories, %d blobs and manifests are right (%s)\n", outcome(err, len(found)),
		d.progress.Finished.Load(), repositories, d.progress.Copied.Load(), bytes10(d.progress.Bytes.Load())))
	return found, err
}

// tabulate prints what is wrong.
func tabulate(out io.Writer, found []scrub.Finding) error {
	rows := make([][]string, 0, 1+len(found))
	rows = append(rows, []string{"REPOSITORY", "KIND", "NAME", "FAULT", "PROBLEM", "TAGS"})
	for _, f := range found {
		rows = append(rows, []string{f.Repository, string(f.Kind), f.Name, string(f.Fault), remedy(f), leading(f)})
	}
	return printTable(out, rows)
}

// readable is a store of which some repositories are read.
type readable struct {
	storage.Store

	only func(oci.Name) bool
}

// Unwrap is for storage.As.
func (r readable) Unwrap() any { return r.Store }

func (r readable) Repositories(ctx context.Context, after oci.Name) iter.Seq2[oci.Name, error] {
	return func(yield func(oci.Name, error) bool) {
		for name, err := range r.Store.Repositories(ctx, after) {
			if (err != nil || r.only(name)) && !yield(name, err) {
				return
			}
		}
	}
}
