package command

import "github.com/spf13/cobra"

func newRestore(c Caddy) *cobra.Command {
	r := newRunning(c)
	cmd := &cobra.Command{
		Use:   "restore [--name <registry>] [--address <admin>] REPOSITORY",
		Short: "Puts back the last good names of a damaged repository",
		Long: `Puts back the last good names of a repository whose index.json, or log, can't be
read. They're what is served of it meanwhile; see them with ls. From then on it can
be pushed to again. What was damaged is kept beside the repository's log. A
repository that isn't damaged is left as it is. It asks Caddy's admin endpoint.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			return r.Post("/restore/" + args[0])
		},
	}
	r.flags(cmd)
	return cmd
}
