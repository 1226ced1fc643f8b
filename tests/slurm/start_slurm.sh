#!/bin/sh
# A real Slurm of one node on this machine, for `make test-slurm`: Debian or Ubuntu, as root.
#   start_slurm.sh         installs what is missing, starts the daemons, waits until the node is idle
#   start_slurm.sh stop    ends the daemons
# Settings lie in /etc/slurm/slurm.conf; one that another hand wrote is left alone and used as it is.
set -eu

state=/var/lib/patchscale-slurm
conf=/etc/slurm/slurm.conf
mark="# written by patchscale's tests/slurm/start_slurm.sh"

stop() {
    scontrol shutdown 2>/dev/null || true
    for daemon in slurmctld slurmd munged; do
        if [ -s "$state/$daemon.pid" ]; then kill "$(cat "$state/$daemon.pid")" 2>/dev/null || true; fi
        rm -f "$state/$daemon.pid"
    done
}

install() {
    command -v sbatch >/dev/null && command -v slurmctld >/dev/null && command -v munged >/dev/null && return
    apt-get install -y --no-install-recommends slurm-wlm munge >/dev/null || {
        apt-get update >/dev/null
        apt-get install -y --no-install-recommends slurm-wlm munge >/dev/null
    }
}

configure() {
    mkdir -p "$state/ctld" "$state/d" /etc/slurm
    if [ -f "$conf" ] && ! grep -qF "$mark" "$conf"; then return; fi
    memory=$(awk '/^MemTotal/ {print int($2 / 1024 * 0.8)}' /proc/meminfo)
    cat > "$conf" <<CONF
$mark
ClusterName=patchscale
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/d
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=5,batch_sched_delay=1
KillWait=30
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
}

start() {
    if ! munge -n >/dev/null 2>&1; then
        if [ ! -s /etc/munge/munge.key ]; then head -c 1024 /dev/urandom > /etc/munge/munge.key; fi
        mkdir -p /run/munge /var/log/munge /var/lib/munge
        chown munge: /etc/munge/munge.key /run/munge /var/log/munge /var/lib/munge
        chmod 400 /etc/munge/munge.key
        setpriv --reuid munge --regid munge --init-groups munged --force
        cp /run/munge/munged.pid "$state/munged.pid"
    fi
    pgrep -x slurmctld >/dev/null || slurmctld
    pgrep -x slurmd >/dev/null || slurmd
    for _ in $(seq 60); do
        if sinfo --noheader --format=%T 2>/dev/null | grep -qE '^(idle|mixed|allocated)$'; then
            sinfo
            return
        fi
        sleep 1
    done
    echo "Slurm's node did not come up; see $state/*.log" >&2
    tail -5 "$state"/*.log >&2
    exit 1
}

[ "$(id -u)" = 0 ] || { echo "start_slurm.sh must run as root" >&2; exit 1; }
case "${1:-start}" in
    start) install; configure; start ;;
    stop) stop ;;
    *) echo "usage: start_slurm.sh [start|stop]" >&2; exit 2 ;;
esac
