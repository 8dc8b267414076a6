package ociregistry

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/storage"
)

// moving is what 'caddy oci-registry state move' is told.
type moving struct {
	storeFlags

	registry string
	to       string
}

func stateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "state move …",
		Short: "Moves what a registry keeps for itself: the keys that sign, API keys",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(stateMoveCommand())
	return cmd
}

func stateMoveCommand() *cobra.Command {
	var m moving
	cmd := &cobra.Command{
		Use:   "move --to caddy|store [--config <file>] [--registry <name>]",
		Short: "Moves a registry's keys into Caddy's storage, or beside the content",
		Long: `Moves what a registry keeps for itself (the keys that sign tokens and sessions,
API keys, what was revoked) from Caddy's storage to where the content is, or back,
for when the option state changes. Stop all replicas first, and run it as the user of
the service: each user's storage of Caddy's is another one, unless the configuration
says where it is.

It copies, compares, and then removes. What was interrupted goes on when the command
is given again; until then a registry that needs the keys doesn't start. If a key has
another value in the other place nothing is moved: remove the one that doesn't count.
They are files of the same name in both, in _state of a root, state/ of a bucket, and
oci_registry/NAME/state of Caddy's storage.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			ctx, stop := untilInterrupted(cmd.Context())
			defer stop()
			return m.run(ctx, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVarP(&m.registry, "registry", "r", "", "The registry's name, if the configuration has several")
	cmd.Flags().StringVarP(&m.to, "to", "", "", "Where to: caddy or store")
	m.add(cmd)
	requireFlags(cmd, "to")
	return cmd
}

func (m *moving) run(ctx context.Context, out io.Writer) (err error) {
	to := StateHome(m.to)
	if to != StateCaddy && to != StateStore {
		return fmt.Errorf("--to %s: want %s or %s", m.to, StateCaddy, StateStore)
	}
	app, err := m.app()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, app.Cleanup()) }()
	r, err := app.one(m.registry)
	if err != nil {
		return err
	}
	if r.homes[0].module == "memory" {
		return fmt.Errorf("registry %s is in memory, where nothing outlives its process: write 'state caddy'", r.name)
	}
	if _, err := app.open(ctx, r.name, true); err != nil { // which closes with the app
		return err
	}
	return r.moveState(ctx, to, out)
}

// moveState moves the registry's state to a home, and says what it has moved.
func (r *Registry) moveState(ctx context.Context, to StateHome, out io.Writer) error {
	n := 0
	err := keep.Move(ctx, r.stateIn[to.other()], r.stateIn[to], func(key string) {
		n++
		_, _ = fmt.Fprintln(out, key) // if nobody can read it, it's moved all the same
	})
	switch {
	case errors.Is(err, storage.ErrStandby):
		return fmt.Errorf("%w\nIf registry %s is running, stop it first", err, r.name)
	case err != nil:
		return fmt.Errorf("move the state of registry %s to %s: %w", r.name, to, advised(err))
	}
	_, err = fmt.Fprintf(out, "%d moved to %s; the configuration has to say 'state %[2]s', or have that as the default\n", n, to)
	return err
}
