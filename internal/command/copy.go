package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage/transfer"
)

// copyOptions are what 'caddy oci-registry copy' is told.
type copyOptions struct {
	storeFlags

	from, to  string
	overwrite bool
	parallel  int
}

func newCopy(c Caddy) *cobra.Command {
	o := copyOptions{storeFlags: storeFlags{caddy: c}}
	cmd := &cobra.Command{
		Use:   "copy --from <store> --to <store> [--overwrite] [--parallel <n>] [REPOSITORY…]",
		Short: "Copies repositories from one store to another",
		Long: `Copies repositories from one store to another: from a disk to a bucket, back, or
out of a zot's bucket. All of them, or those named and what's below them. Tags,
manifests without one, referrers and all blobs come along, by the digests they
have, which are checked on the way.

What is in the target already is skipped, so a copy that was stopped goes on when
it's started again. Nothing is removed from the target. What couldn't be copied is
listed, and the exit code is 1 then.

` + storeHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			ctx, stop := untilInterrupted(cmd.Context())
			defer stop()
			return o.run(ctx, cmd.ErrOrStderr(), args)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.from, "from", "", "", "The store to copy from")
	f.StringVarP(&o.to, "to", "", "", "The store to copy to")
	f.BoolVarP(&o.overwrite, "overwrite", "", false, "Move tags that name something else in the target")
	f.IntVarP(&o.parallel, "parallel", "", 8, "How many blobs are copied at once")
	o.add(cmd)
	requireFlags(cmd, "from", "to")
	return cmd
}

func (o *copyOptions) run(ctx context.Context, out io.Writer, repositories []string) (err error) {
	if o.from == o.to {
		return fmt.Errorf("%s can't be copied to itself", shown(o.from))
	}
	only, err := below(repositories)
	if err != nil {
		return err
	}
	from, err := o.read(ctx, out, o.from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := o.write(ctx, o.to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	defer sparingly()()
	d := newDisplay(out, "written")
	err = transfer.Copy(ctx, to, from, transfer.Options{
		Only: only, Overwrite: o.overwrite, Parallel: o.parallel, By: "oci-registry copy",
		Progress: &d.progress, Problem: d.problem,
	})
	return d.end(explain(err, o.to))
}

// below says which repositories are meant by a list of names: each of them and
// all below it. None stands for all.
func below(names []string) (func(oci.Name) bool, error) {
	for _, n := range names {
		if _, err := oci.ParseName(n); err != nil {
			return nil, err
		}
	}
	return func(name oci.Name) bool {
		for _, n := range names {
			rest, ok := strings.CutPrefix(name.String(), n)
			if ok && (rest == "" || rest[0] == '/') {
				return true
			}
		}
		return len(names) == 0
	}, nil
}
