package cluster

import (
	"fmt"
	"strings"
)

// properties are those of one broker: deploy/kafka/kafka's, with as many copies of everything
// as a cluster in production has. What is not named here is left at Kafka's default: the
// sessions of brokers, elections, fetches and ISR are those that a user's cluster has.
func properties(dir string, id int, l *layout) string {
	var voters []string
	for i, addr := range l.controller {
		voters = append(voters, fmt.Sprintf("%d@%s", i, addr))
	}
	listeners := []string{"DIRECT://" + l.direct[id], "CONTROLLER://" + l.controller[id]}
	advertised := []string{"DIRECT://" + l.direct[id]}
	protocols := []string{"DIRECT:PLAINTEXT", "CONTROLLER:PLAINTEXT"}
	for slot := range l.proxies {
		listeners = append(listeners, fmt.Sprintf("SLOT%d://%s", slot, l.behind[slot][id]))
		advertised = append(advertised, fmt.Sprintf("SLOT%d://%s", slot, l.proxies[slot][id]))
		protocols = append(protocols, fmt.Sprintf("SLOT%d:PLAINTEXT", slot))
	}
	replicas := min(len(l.direct), 3)
	inSync := max(1, replicas-1)
	return fmt.Sprintf(`process.roles=broker,controller
node.id=%d
controller.quorum.voters=%s
listeners=%s
advertised.listeners=%s
listener.security.protocol.map=%s
controller.listener.names=CONTROLLER
inter.broker.listener.name=DIRECT
log.dirs=%s

auto.create.topics.enable=false
unclean.leader.election.enable=false
default.replication.factor=%[7]d
min.insync.replicas=%[8]d
offsets.topic.replication.factor=%[7]d
offsets.topic.num.partitions=6
transaction.state.log.replication.factor=%[7]d
transaction.state.log.min.isr=%[8]d
transaction.state.log.num.partitions=6
share.coordinator.state.topic.replication.factor=%[7]d
share.coordinator.state.topic.min.isr=%[8]d
share.coordinator.state.topic.num.partitions=1

# A test's group has its members at once.
group.initial.rebalance.delay.ms=0

# In the consumer protocol the broker has the session, not the member. 10 s is what the suite's
# classic members ask for; the default is 45 s, and 45 s the least that it may be.
group.consumer.min.session.timeout.ms=6000
group.consumer.session.timeout.ms=10000
group.consumer.min.heartbeat.interval.ms=1000
group.consumer.heartbeat.interval.ms=3000

# Tests produce what happened weeks ago; a topic that names no retention keeps it.
log.retention.ms=-1

# Of the heap: the default is 128 MiB.
log.cleaner.dedupe.buffer.size=16777216

# A broker that starts gives up after a minute without the controllers, which a busy machine takes.
initial.broker.registration.timeout.ms=600000

# Connections that wait for a paused broker must not fill its queue: a proxy would wait too.
socket.listen.backlog.size=1024
`, id, strings.Join(voters, ","), strings.Join(listeners, ","), strings.Join(advertised, ","),
		strings.Join(protocols, ","), dataDir(dir), replicas, inSync)
}
