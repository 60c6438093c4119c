package daemon

import (
	"fmt"
	"net"
	"os"
)

// owner is whose a socket is.
type owner struct {
	uid   int    // who made it
	inode uint64 // its number among the machine's sockets
}

// systemUsers are the user ids below this one, which no person has: those of
// packages and services (UID_MIN of login.defs(5)).
const systemUsers = 1000

// guard decides who may use the port of a run. On loopback the port is within
// everybody's reach, and the environment of the run's command, which says where
// it is, need not be secret.
type guard struct {
	me     int // the daemon's user
	runner int // the process that has the run; 0: not known
	// ask is ownerOfPeer but in tests.
	ask func(*net.TCPConn) (owner, bool, error)
}

func newGuard(runner int) guard {
	return guard{me: os.Getuid(), runner: runner, ask: ownerOfPeer}
}

// admit refuses connections of other users: admitted are the daemon's own user
// and root. Commands that root runs change their user themselves, so root's
// daemon also admits system users, such as apt's _apt, and whatever other user a
// process has that descends from the run. Where the system does not say who it
// is, everybody is admitted.
func (g guard) admit(c *net.TCPConn) error {
	o, ok, err := g.ask(c)
	switch {
	case err != nil:
		return fmt.Errorf("ask whose connection it is: %w", err)
	case !ok, o.uid == g.me, o.uid == 0:
		return nil
	case g.me == 0 && (o.uid < systemUsers || g.runner > 0 && descends(o.inode, g.runner)):
		return nil
	}
	return fmt.Errorf("it is of user %d, and this is user %d's", o.uid, g.me)
}
