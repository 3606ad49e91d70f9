//! How members are written: in commands and in snapshots alike.

use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeSet;

use crate::base::fields::{FieldError, FieldReader, put_count, put_text};
use crate::base::ids::{Incarnation, NodeId};
use crate::cluster::command::MAX_NAME_BYTES;
use crate::membership::change::Join;
use crate::membership::view::{Member, MemberState};

pub(super) fn put_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&address.port().to_le_bytes());
}

pub(super) fn read_address(fields: &mut FieldReader<'_>) -> Result<SocketAddr, FieldError> {
    let ip = match fields.u8()? {
        4 => IpAddr::from(fields.array::<4>()?),
        6 => IpAddr::from(fields.array::<16>()?),
        _ => return Err(fields.error("an address is neither of version 4 nor 6")),
    };
    Ok(SocketAddr::new(ip, fields.u16()?))
}

pub(super) fn put_join(out: &mut Vec<u8>, join: &Join) {
    out.extend_from_slice(&join.node.0.to_le_bytes());
    put_address(out, join.address);
    put_count(out, join.roles.len());
    join.roles.iter().for_each(|role| put_text(out, role));
    out.extend_from_slice(&join.data_cores.to_le_bytes());
}

pub(super) fn read_join(fields: &mut FieldReader<'_>) -> Result<Join, FieldError> {
    let node = NodeId(fields.u32()?);
    let address = read_address(fields)?;
    let roles = (0..fields.count(2)?)
        .map(|_| fields.text(MAX_NAME_BYTES).map(str::to_owned))
        .collect::<Result<_, _>>()?;
    let data_cores = fields.u16()?;
    Ok(Join {
        node,
        address,
        roles,
        data_cores,
    })
}

pub(super) fn put_member(out: &mut Vec<u8>, member: &Member) {
    out.extend_from_slice(&member.node.0.to_le_bytes());
    out.extend_from_slice(&member.incarnation.0.to_le_bytes());
    put_address(out, member.address);
    put_count(out, member.roles.len());
    member.roles.iter().for_each(|role| put_text(out, role));
    out.extend_from_slice(&member.data_cores.to_le_bytes());
    out.push(match member.state {
        MemberState::Joining => 0,
        MemberState::Up => 1,
        MemberState::Leaving => 2,
        MemberState::Down => 3,
        MemberState::Removed => 4,
    });
    put_count(out, member.unreachable_by.len());
    for by in &member.unreachable_by {
        out.extend_from_slice(&by.0.to_le_bytes());
    }
}

pub(super) fn read_member(fields: &mut FieldReader<'_>) -> Result<Member, FieldError> {
    Ok(Member {
        node: NodeId(fields.u32()?),
        incarnation: Incarnation(fields.u32()?),
        address: read_address(fields)?,
        roles: (0..fields.count(2)?)
            .map(|_| fields.text(MAX_NAME_BYTES).map(str::to_owned))
            .collect::<Result<_, _>>()?,
        data_cores: fields.u16()?,
        state: match fields.u8()? {
            0 => MemberState::Joining,
            1 => MemberState::Up,
            2 => MemberState::Leaving,
            3 => MemberState::Down,
            4 => MemberState::Removed,
            _ => return Err(fields.error("a member is in no known state")),
        },
        unreachable_by: (0..fields.count(4)?)
            .map(|_| fields.u32().map(NodeId))
            .collect::<Result<BTreeSet<_>, _>>()?,
    })
}
