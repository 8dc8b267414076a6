package command

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-oci/oci-registry/authz"
)

// explanation is what 'caddy oci-registry explain' is told.
type explanation struct {
	storeFlags
	authz.Supposed

	registry string
	json     bool
}

func newExplain(c Caddy) *cobra.Command {
	e := explanation{storeFlags: storeFlags{caddy: c}}
	cmd := &cobra.Command{
		Use:   "explain [--config <file>] [--registry <name>] [--group <name>]… USER ACTION [REPOSITORY[:TAG|@DIGEST]]",
		Short: "Says whether a user may do something, and which rule decides",
		Long: `Says whether a user may do something, and which rule of the policy decides. It
reads the configuration, and asks neither a running registry nor who knows users:
the user's groups are those of the configuration and those given with --group.

USER is a name, or anonymous for who hasn't signed in; user:NAME is a user whatever
the name, and user@PROVIDER:NAME one whom that provider knows. ACTION is pull, push, overwrite, delete or list. Without a REPOSITORY it's
about the registry as such. Rules with conditions are asked as for a plain request
from the address --from, and not met without one.

The exit code is 1 if it's refused.`,
		Args: cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			e.User, e.Action = args[0], args[1]
			if len(args) == 3 {
				e.Repository, e.Reference = cutReference(args[2])
			}
			return e.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVarP(&e.registry, "registry", "r", "", "The registry's name, if the configuration has several")
	f.StringArrayVarP(&e.Groups, "group", "g", nil, "A group that the user is in; may be given several times")
	f.StringVarP(&e.Provider, "provider", "", "", "The provider that knows the user, for rules and conditions that look at it")
	f.StringVarP(&e.Client, "from", "", "", "The client's address, for conditions that look at requests")
	f.BoolVarP(&e.json, "json", "", false, "Print JSON")
	e.add(cmd)
	return cmd
}

// cutReference takes apart REPOSITORY[:TAG|@DIGEST].
func cutReference(s string) (repository, reference string) {
	sep := ":"
	if strings.Contains(s, "@") {
		sep = "@"
	}
	repository, reference, _ = strings.Cut(s, sep)
	return repository, reference
}

func (e *explanation) run(ctx context.Context, out io.Writer) (err error) {
	config, err := e.load()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, config.Close()) }()
	found, err := config.Explain(ctx, e.registry, e.Supposed)
	if err != nil {
		return err
	}
	if e.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "\t")
		err = enc.Encode(found)
	} else {
		_, err = io.WriteString(out, found.String())
	}
	if err == nil && !found.Granted {
		return errRefused
	}
	return err
}

// errRefused makes the exit code of a refusal another one than that of a grant.
var errRefused = errors.New("refused")
