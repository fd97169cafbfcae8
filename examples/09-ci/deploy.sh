#!/bin/sh
# Deploys one spec with the image that this build made, from any CI, and follows the rollout to its end.
#
#   OTON_HOST    https://deploy.example.com, or ssh://deploy@host
#   OTON_TOKEN   a token with scope deploy for this app (not needed over ssh)
#   IMAGE        what was just built and pushed, such as registry.example.com/shop:1a2b3c4
set -eu
: "${OTON_HOST:?set it to where the service is}" "${IMAGE:?set it to the image that was built}"
spec=${1:-shop.yaml}

oton validate "$spec"
oton diff "$spec" --image "$IMAGE" || [ $? -eq 1 ]      # 1: there are differences; shown for the build's log

code=0
oton apply "$spec" --image "$IMAGE" --timeout "${DEPLOY_TIMEOUT:-15m}" || code=$?
case $code in
0) echo "deployed $IMAGE" ;;
3) echo "refused or undone: the old release serves on" >&2 ;;
4) echo "still rolling out after ${DEPLOY_TIMEOUT:-15m}; it goes on without this job" >&2 ;;
5) echo "a newer deployment took over, or the app is pinned by a rollback" >&2 ;;
9) echo "accepted; a person has to move it on" && code=0 ;;
esac
exit "$code"
