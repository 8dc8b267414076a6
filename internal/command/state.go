package command

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// moving is what 'caddy oci-registry state move' is told.
type moving struct {
	storeFlags

	registry string
	to       string
}

func newState(c Caddy) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "state move …",
		Short: "Moves what a registry keeps for itself: the keys that sign, API keys",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newStateMove(c))
	return cmd
}

func newStateMove(c Caddy) *cobra.Command {
	m := moving{storeFlags: storeFlags{caddy: c}}
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
	if m.to != "caddy" && m.to != "store" {
		return fmt.Errorf("--to %s: want caddy or store", m.to)
	}
	config, err := m.load()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, config.Close()) }()
	n := 0
	err = config.MoveState(ctx, m.registry, m.to, func(key string) {
		n++
		_, _ = fmt.Fprintln(out, key) // if nobody can read it, it's moved all the same
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%d moved to %s; the configuration has to say 'state %[2]s', or have that as the default\n", n, m.to)
	return err
}
