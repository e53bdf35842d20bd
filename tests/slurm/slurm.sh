#!/usr/bin/env bash
# slurm.sh FOLDER COMMAND...: a whole Slurm on this machine (munged, slurmctld, slurmd, no accounting), all of it in
# FOLDER, while COMMAND runs; SLURM_CONF leads to it. It says why where it cannot be started, and exits with 77.
# Its partitions have one node. "pair" has a second one, another slurmd of this machine under a name that resolves.
set -uo pipefail
home=$(realpath -m "$1") && shift
skip() { echo "no Slurm: $1" >&2; exit 77; }
for program in munged slurmctld slurmd; do
    PATH=$PATH:/usr/sbin command -v $program >/dev/null || skip "$program is not installed (Debian: apt-get install slurm-wlm munge)"
done
[ "$(id -u)" = 0 ] || skip "slurmd needs root"
export PATH=$PATH:/usr/sbin
rm -rf "$home" && mkdir -p "$home/state" "$home/spool" "$home/munge" && chmod 755 "$home"
head -c 1024 /dev/urandom > "$home/munge/key" && chmod 700 "$home/munge" && chmod 600 "$home/munge/key"
host=$(hostname -s)
mkdir "$home/spool/$host" "$home/spool/localhost"
cat > "$home/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$home/munge/socket,cred_expire=5
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool/%n
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/%n.pid
SlurmctldLogFile=$home/slurmctld.log
SlurmdLogFile=$home/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,sched_interval=5,sched_min_interval=200000
ReturnToService=2
KillWait=10
MinJobAge=300
InactiveLimit=0
DefMemPerCPU=1000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(getconf _NPROCESSORS_ONLN) RealMemory=4000 State=UNKNOWN
NodeName=localhost NodeHostname=$host NodeAddr=127.0.0.1 Port=26819 CPUs=$(getconf _NPROCESSORS_ONLN) RealMemory=4000
PartitionName=work Nodes=$host Default=YES MaxTime=7-0 PriorityTier=1 State=UP
PartitionName=first Nodes=$host MaxTime=7-0 PriorityTier=10 State=UP
PartitionName=short Nodes=$host MaxTime=5 State=UP
PartitionName=pair Nodes=$host,localhost MaxTime=7-0 State=UP
CONF
export SLURM_CONF=$home/slurm.conf
stop() {
    squeue -h -a -o %A 2>/dev/null | sort -u | xargs -r scancel 2>/dev/null
    for _ in $(seq 60); do  # a job outlives its daemons
        [ -z "$(squeue -h -a 2>/dev/null)" ] && break
        sleep 0.5
    done
    scontrol shutdown >/dev/null 2>&1
    for name in "$host" localhost slurmctld munge/munged; do
        [ -f "$home/$name.pid" ] && kill "$(cat "$home/$name.pid")" 2>/dev/null
    done
    true
}
trap stop EXIT
munged --force --key-file "$home/munge/key" --socket "$home/munge/socket" --pid-file "$home/munge/munged.pid" \
    --log-file "$home/munge/log" --seed-file "$home/munge/seed" || skip "munged does not start"
slurmctld -f "$SLURM_CONF" || skip "slurmctld does not start; see $home/slurmctld.log"
slurmd -f "$SLURM_CONF" -N "$host" || skip "slurmd does not start; see $home/$host.log"
slurmd -f "$SLURM_CONF" -N localhost || echo "no second node; see $home/localhost.log" >&2
for _ in $(seq 60); do
    sinfo -h -o %t 2>/dev/null | grep -q idle && break
    sleep 0.5
done
sinfo -h -o %t 2>/dev/null | grep -q idle || { tail -5 "$home"/*.log >&2; skip "the node does not come up"; }
"$@"
