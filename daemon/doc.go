// Package daemon is the background larder of one user: how the first run starts
// it, how two never live in one state folder, how a run asks it for a proxy
// port of its own and for the account of what was fetched, and when it ends.
//
// Start at Connect (the client side, used by "larder run") and Server (the
// daemon's side). It knows the rest of larder only through the functions that
// the program passes in.
//
// # One per state folder
//
// The daemon is whoever holds flock(2) on run/daemon.lock. The kernel lets go of
// the lock when its holder dies, however it dies, so no lock is ever stale. The
// file is never removed, because a lock on a removed file excludes nobody. Only
// the holder replaces run/control.sock. Clients that find no daemon take
// run/start.lock in turn, so that one of them starts it and the others wait for
// the socket to answer.
//
// # The order of an end
//
// New runs are refused; runs that are under way get a grace period; the socket
// goes; the proxy drains and closes its store; the lock is released last. A
// daemon started in the meantime waits for that lock, so a run that comes while
// its predecessor is just ending is served by the successor and sees no error.
//
// # A run
//
// POST /v1/runs answers with one line of JSON and then stays open: the run lives
// as long as that connection. A client that is killed frees its port.
//
// # Who may use a run's port
//
// It is a loopback port, which every user of the machine can reach, so each
// connection is asked whose it is (sock_diag(7), else proc(5)): the daemon's own
// user and root are admitted, others are cut. Commands that root runs change
// their user themselves, as apt-get does for its downloads; therefore root's
// daemon also admits system users, whose ids are below 1000, and every process
// that descends from the run, whoever it is. Only Linux can be asked. Elsewhere
// every user of the machine can fetch through a run's port while the run lasts.
//
// # Another version
//
// Both sides say which build they are. A daemon of another build without runs is
// asked to end, and is replaced; one with runs is left in peace and the client
// gets a *VersionError.
package daemon
