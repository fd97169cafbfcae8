"""
An app's inspector: a process of its own in which mitmproxy's layers see the app's traffic, with people's addons.

    start      its first moments, with rights to give away
    serve      the process and its end          layers    mitmproxy's HTTP layers, without their faults
    strain     what a replica may say to them   guard     the first and the last addon of every flow
    addons     people's own addons              record    captures as HAR, without credentials
    desk       the line to the controller

It may hang, swell and die: the lane goes round it. What reaches it was checked by the lane, and what it says is
checked by the lane again.
"""
