package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage/archive"
)

// archiveOptions are what export and import are told.
type archiveOptions struct {
	storeFlags

	store     string
	file      string // default: standard input or output
	into      string
	overwrite bool
}

func (o *archiveOptions) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.store, "store", "s", "", "The store")
	o.storeFlags.add(cmd)
	requireFlags(cmd, "store")
}

func newExport(c Caddy) *cobra.Command {
	o := archiveOptions{storeFlags: storeFlags{caddy: c}}
	cmd := &cobra.Command{
		Use:   "export --store <store> [--file <file>] [REPOSITORY…]",
		Short: "Writes repositories to a tar file of OCI image layouts",
		Long: `Writes repositories to a tar file of OCI image layouts. A single one becomes an
OCI archive, which other tools read too:

  caddy oci-registry export -s /srv/registry team/app > app.tar
  skopeo copy oci-archive:app.tar:v1 docker://…

Several, or all if none is named, each get a folder of their name in it. Unpacked,
that is a root that can be served.

` + storeHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			ctx, stop := untilInterrupted(cmd.Context())
			defer stop()
			return o.export(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr(), args)
		},
	}
	cmd.Flags().StringVarP(&o.file, "file", "f", "", "The file to write (default: standard output)")
	o.add(cmd)
	return cmd
}

func newImport(c Caddy) *cobra.Command {
	o := archiveOptions{storeFlags: storeFlags{caddy: c}}
	cmd := &cobra.Command{
		Use:   "import --store <store> [--file <file>] [--into <name>] [--overwrite]",
		Short: "Reads repositories from a tar file of OCI image layouts",
		Long: `Reads repositories from a tar file of OCI image layouts: one that export has
written, or another tool.

  skopeo copy docker://… oci-archive:app.tar:v1
  caddy oci-registry import -s /srv/registry --into team/app < app.tar

A file with one layout doesn't say which repository it is: --into does. With
several, --into is what their names begin with.

` + storeHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			ctx, stop := untilInterrupted(cmd.Context())
			defer stop()
			return o.importFrom(ctx, cmd.InOrStdin(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.file, "file", "f", "", "The file to read (default: standard input)")
	f.StringVarP(&o.into, "into", "", "", "The repository, or what the names of several begin with")
	f.BoolVarP(&o.overwrite, "overwrite", "", false, "Move tags that name something else")
	o.add(cmd)
	return cmd
}

func (o *archiveOptions) export(ctx context.Context, stdout, out io.Writer, repositories []string) (err error) {
	if o.file == "" && isTerminal(stdout) {
		return errors.New("a tar file is nothing for a terminal: name one with --file, or write '> app.tar'")
	}
	names, err := parseNames(repositories)
	if err != nil {
		return err
	}
	from, err := o.read(ctx, out, o.store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if len(names) == 0 {
		if names, err = archive.All(ctx, from); err != nil {
			return err
		}
	}
	to, err := o.create(stdout)
	if err != nil {
		return err
	}
	d := newDisplay(out, "written")
	opts := archive.Options{Progress: &d.progress, Problem: d.problem}
	if len(repositories) == 1 {
		err = archive.ExportOne(ctx, to, from, names[0], opts)
	} else {
		err = archive.Export(ctx, to, from, names, opts)
	}
	return d.end(errors.Join(err, to.Close()))
}

func parseNames(repositories []string) ([]oci.Name, error) {
	names := make([]oci.Name, len(repositories))
	for i, s := range repositories {
		var err error
		if names[i], err = oci.ParseName(s); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// create opens what is written to. Closing standard output does nothing.
func (o *archiveOptions) create(stdout io.Writer) (io.WriteCloser, error) {
	if o.file == "" {
		return nopCloser{stdout}, nil
	}
	return os.OpenFile(o.file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func (o *archiveOptions) importFrom(ctx context.Context, stdin io.Reader, out io.Writer) (err error) {
	if o.into != "" {
		if _, err := oci.ParseName(o.into); err != nil {
			return fmt.Errorf("--into: %w", err)
		}
	}
	from := io.NopCloser(stdin)
	if o.file != "" {
		if from, err = os.Open(o.file); err != nil {
			return err
		}
	}
	defer from.Close()
	to, err := o.write(ctx, o.store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	defer sparingly()()
	d := newDisplay(out, "written")
	err = archive.Import(ctx, to, from, archive.ImportOptions{
		Options: archive.Options{Progress: &d.progress, Problem: d.problem},
		Into:    o.into, Overwrite: o.overwrite, By: "oci-registry import",
	})
	return d.end(explain(err, o.store))
}
